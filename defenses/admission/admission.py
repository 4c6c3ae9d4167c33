"""Admission: updates all limits and the ledger of an account in one atomic step of the store."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from defenses.admission.limit import Limit
from defenses.admission.price import ENTRIES, TOKENS, Price, Usage
from defenses.reactions.alarm import StandingAlarm, refused
from defenses.reactions.slow import Slowed
from defenses.store import Charge, Counter, Level, Verdict, VersionConflict
from defenses.store.counters import OpenCharge
from wire import BadInput, Card, Query, Refused
from wire.ratelimit import Limits, Policy

EVERYWHERE = "*"  # the scope of limits on all models together


class Kept(NamedTuple):
    """A limit in a stack.

    Attributes:
        counter: Name of its counter in the store.
        policy: Its description in headers, under a name that is unique in the stack.
        rule: The limit.
    """

    counter: str
    policy: Policy
    rule: Limit


class Bill(NamedTuple):
    """The cost of the answer to a query.

    Attributes:
        charge: What to charge the account.
        rows: Number of rows, or of tokens.
        kept: The limits that have the first of the charge's counters.
        refused: The refusal of a query that no limit would refuse.
        unit: What is counted.
    """

    charge: Charge
    rows: int
    kept: tuple[Kept, ...] = ()
    refused: Refused | None = None
    unit: str = "rows"

    def limits(self, verdict: Verdict) -> Limits:
        """Returns the limits' state after the charge.

        Raises:
            Refused: A limit or an alarm refuses the query; nothing was charged.
            VersionConflict: The control log has grown beyond the charge's position.
        """
        if verdict.kind == "behind":
            raise VersionConflict(f"the control log has grown beyond {self.charge.log_position}")
        if self.refused is not None:
            raise self.refused
        at = self.charge.at
        if verdict.kind == "over":
            _, policy, rule = self.kept[verdict.counter]
            raise rule.refusal(policy, self.rows, verdict.level, at, self.unit)
        left = [limit.rule.remaining(level, at) for limit, level in zip(self.kept, verdict.levels, strict=True)]
        return Limits(tuple([limit.policy for limit in self.kept]), tuple(left))


class Admission:
    """Makes the bills of a model's queries: a query is admitted if every limit admits it.

    All counters of an account change together or not at all. A request with an idempotency key is billed once
    within ten minutes, however often it is retried; the rate limit counts each retry.

    Attributes:
        model: Name of the model.
        price: Prices of rows and requests.
    """

    def __init__(
        self,
        model: str,
        limits: Sequence[Limit],
        price: Price,
        overall: Sequence[Limit] = (),
    ) -> None:
        """Names the counters.

        Args:
            model: Name of the model.
            limits: Limits per account and model.
            price: Prices of rows and requests.
            overall: Limits per account, on all models together.

        Raises:
            BadInput: Two limits would share a counter.
        """
        self.model, self.price = model, price
        everywhere = (
            Kept(f"{EVERYWHERE}/{rule.name}", rule.policy._replace(name=f"all-{rule.policy.name}"), rule)
            for rule in overall
        )
        self._limits = (*everywhere, *map(self._kept, limits))
        entries = [f"{model}/ledger/{entry}" for entry in ENTRIES]
        # The same for all requests of as many rows.
        self._ledger = lru_cache(1024)(lambda rows: tuple(map(Counter, entries, price.amounts(rows))))
        names = [limit.counter for limit in self._limits]
        for name in names:
            if names.count(name) > 1:
                raise BadInput(f"two limits share the counter {name}; expected one")

    def bill(
        self,
        query: Query,
        alarms: Sequence[StandingAlarm] = (),
        log_position: int | None = None,
        usage: Usage | None = None,
    ) -> Bill:
        """Returns what an answer will cost.

        Args:
            query: The query.
            alarms: The account's alarms at the model.
            log_position: Position of the control log at which the account and its alarms were read; None without
                a control log.
            usage: The tokens of its texts, where these are billed in place of rows.
        """
        rows, at = len(query.x) if usage is None else sum(usage), query.at
        unit = "rows" if usage is None else "tokens"
        if (limits := self._under(alarms)) is None:
            return self._refusing(query.account, rows, at, log_position, unit)
        counters = [rule.counter(name, rows, at) for name, _, rule in limits]
        counters += self._ledger(rows) if usage is None else self._token_ledger(usage)
        return Bill(
            Charge(query.account, counters, at, query.idempotency_key, log_position), rows, limits, unit=unit
        )

    def _under(self, alarms: Sequence[StandingAlarm]) -> tuple[Kept, ...] | None:
        """Returns the limits of an account with alarms; None if it is refused."""
        if not alarms:
            return self._limits
        if any(alarm.reaction == "refuse" for alarm in alarms):
            return None
        return (*self._limits, *[self._kept(Slowed(a.at)) for a in alarms if a.reaction == "slow"][:1])

    def _refusing(self, account: str, amount: int, at: float, log_position: int | None, unit: str) -> Bill:
        """Returns the bill of an account that is refused if the control log has not grown since."""
        nothing = Charge(account, (), at, log_position=log_position)
        return Bill(nothing, amount, refused=refused(self.model), unit=unit)

    def of_tokens(
        self,
        account: str,
        usage: Usage,
        at: float,
        log_position: int | None = None,
        alarms: Sequence[StandingAlarm] = (),
    ) -> Bill:
        """Returns what so many tokens of a language model cost; a limit counts each as it counts a row.

        Args:
            account: Name of the account.
            usage: The tokens.
            at: Seconds since the epoch.
            log_position: As for :meth:`bill`.
            alarms: Likewise.
        """
        if (limits := self._under(alarms)) is None:
            return self._refusing(account, sum(usage), at, log_position, "tokens")
        counters = [rule.counter(name, sum(usage), at) for name, _, rule in limits]
        counters += self._token_ledger(usage)
        charge = Charge(account, counters, at, log_position=log_position)
        return Bill(charge, sum(usage), limits, unit="tokens")

    def _token_ledger(self, usage: Usage) -> list[Counter]:
        return [Counter(f"{self.model}/ledger/{name}", n) for name, n in self.price.of(usage).items()]

    def _kept(self, rule: Limit) -> Kept:
        return Kept(f"{self.model}/{rule.name}", rule.policy, rule)

    def disclose(self, card: Card) -> Card:
        """Returns the card as seen through the limits."""
        for limit in self._limits:
            card = limit.rule.disclose(card)
        return card

    def left(self, levels: dict[str, Level], at: float) -> dict[str, int]:
        """Returns the rows that each limit still allows at the time ``at``, given the account's levels."""
        return {
            name: rule.remaining(
                levels[name].at(rule.counter(name, 0, at)).level if name in levels else 0, at
            ).rows
            for name, _, rule in self._limits
        }


def ledgers(levels: dict[str, Level]) -> dict[str, dict[str, int]]:
    """Returns an account's ledger for each model that it has queried, given the account's levels."""
    return _by_model((name, int(level)) for name, (level, _) in levels.items())


def token_ledgers(levels: dict[str, Level]) -> dict[str, dict[str, int]]:
    """Returns an account's tokens for each language model that it has asked, given the account's levels."""
    found: dict[str, dict[str, int]] = {}
    for name, (level, _) in levels.items():
        model, _, entry = name.partition("/ledger/")
        if entry in TOKENS:
            found.setdefault(model, {})[entry] = int(level)
    return found


def unanswered(open_charges: Iterable[OpenCharge], account: str) -> dict[str, dict[str, int]]:
    """Returns the part of an account's ledger for each model that is charged and not recorded as answered.

    That of a language model has its tokens too.
    """
    mine = [(entry.counter, entry.amount) for entry in open_charges if entry.account == account]
    return _by_model(mine, (*ENTRIES, *TOKENS))


def _by_model(amounts: Iterable[tuple[str, int]], entries: Collection[str] = ENTRIES) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for name, amount in amounts:
        model, _, entry = name.partition("/ledger/")
        if entry in entries:
            ledger = found.setdefault(model, dict.fromkeys(ENTRIES, 0))
            ledger[entry] = ledger.get(entry, 0) + amount
    return found
