"""Admission: every limit and the ledger, changed in one atomic step of the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from defenses.admission.limit import Limit
from defenses.admission.price import ENTRIES, Price
from defenses.defense import Handler
from defenses.reactions.slow import Slowed
from defenses.store import Charge, Level, Meter, Store, VersionConflict
from defenses.store.counters import Number
from wire import Answer, BadInput, Card, Query, Refused

EVERYWHERE = "*"  # the scope of limits that hold over all models together

Headers = list[tuple[bytes, bytes]]


class Kept(NamedTuple):
    """A limit of a stack.

    Attributes:
        meter: Name of its meter.
        label: What answers call it, alone among the limits that an account meets at the model.
        rule: Its rule.
    """

    meter: str
    label: str
    rule: Limit


@dataclass(frozen=True)
class Admission:
    """Lets a query pass if every limit does, and bills it; what was not answered is given back.

    All meters of an account change together or not at all. A request with an idempotency key is billed once
    within ten minutes, however often it is retried; the rate limit counts each retry.

    Attributes:
        model: Name of the victim.
        limits: The limits that are kept per account and model.
        price: The ledger, likewise.
        store: Where the meters stand.
        overall: Limits that are kept per account, over all models together.
        seen: Tells the position up to which the control log was read; None if there is none.
        alarms: Tells the alarms that stand for an account; None if there is no detector.
    """

    model: str
    limits: Sequence[Limit]
    price: Price
    store: Store
    overall: Sequence[Limit] = ()
    seen: Callable[[], int] | None = None
    alarms: Callable[[str], Iterable[Mapping[str, Any]]] | None = None
    _limits: tuple[Kept, ...] = field(init=False, repr=False)
    _policies: bytes = field(init=False, repr=False)
    _entries: list[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        limits = [Kept(f"{EVERYWHERE}/{rule.name}", f"all-{rule.label}", rule) for rule in self.overall]
        limits += map(self._limit, self.limits)
        names = [limit.meter for limit in limits]
        for name in names:
            if names.count(name) > 1:
                raise BadInput(f"two limits are kept as {name}; expected one")
        object.__setattr__(self, "_limits", tuple(limits))
        object.__setattr__(self, "_policies", _policies(limits))
        object.__setattr__(self, "_entries", [f"{self.model}/ledger/{entry}" for entry in ENTRIES])

    async def __call__(self, query: Query, handle: Handler) -> Answer:
        """Answers, refuses or fails, as :meth:`admitted`."""
        return (await self.admitted(query, handle))[0]

    async def admitted(self, query: Query, handle: Handler) -> tuple[Answer, Headers]:
        """Answers, refuses or fails; only what is answered is billed.

        Returns:
            The answer, and the headers that tell what it left of the limits
            (draft-ietf-httpapi-ratelimit-headers-10); none if there is no limit.

        Raises:
            Refused: A limit or an alarm refuses, or the store is away (503).
            VersionConflict: The control log has grown beyond what was read.
        """
        rows, at = len(query.x), query.at
        seen = None if self.seen is None else self.seen()
        limits = self._limits
        if alarms := () if self.alarms is None else self.alarms(query.account):
            if any(alarm["reaction"] == "refuse" for alarm in alarms):
                await self._refuse(query, seen)
            slowed = [Slowed(alarm["at"]) for alarm in alarms if alarm["reaction"] == "slow"][:1]
            limits = (*limits, *map(self._limit, slowed))
        meters = [rule.meter(name, rows, at) for name, _, rule in limits]
        meters += map(Meter, self._entries, self.price.amounts(rows))
        charge = Charge(query.account, meters, at, query.idempotency_key, seen)
        verdict = await self.store.charge(charge)
        if verdict.kind == "behind":
            raise VersionConflict(f"the control log has grown beyond {seen}")
        if verdict.kind == "over":
            _, label, rule = limits[verdict.meter]
            raise rule.refusal(label, rows, verdict.level, at)
        try:
            return await handle(query), self._told(limits, verdict.levels, at)
        except BaseException:
            await self.store.refund(charge)
            raise

    def _limit(self, rule: Limit) -> Kept:
        return Kept(f"{self.model}/{rule.name}", rule.label, rule)

    def _told(self, limits: tuple[Kept, ...], levels: Sequence[Number], at: float) -> Headers:
        if not limits:
            return []
        policies = self._policies if limits is self._limits else _policies(limits)
        told = [
            f'"{label}";{rule.told(level, at)}' for (_, label, rule), level in zip(limits, levels, strict=True)
        ]
        return [(b"ratelimit-policy", policies), (b"ratelimit", ", ".join(told).encode())]

    async def _refuse(self, query: Query, seen: int | None) -> None:
        """Refuses, unless the alarm may have been cleared."""
        if (await self.store.charge(Charge(query.account, (), query.at, seen=seen))).kind == "behind":
            raise VersionConflict(f"the control log has grown beyond {seen}")
        raise Refused(f"this account raised an alarm, and model {self.model} answers it no more", status=403)

    def disclose(self, card: Card) -> Card:
        """Returns the card as it is seen through the limits."""
        for limit in self._limits:
            card = limit.rule.disclose(card)
        return card

    def left(self, levels: dict[str, Level], at: float) -> dict[str, int]:
        """Tells for each limit how many rows may pass at the time ``at``, given the account's levels."""
        return {
            name: rule.left(levels[name].at(rule.meter(name, 0, at)).level if name in levels else 0)
            for name, _, rule in self._limits
        }


def _policies(limits: Iterable[Kept]) -> bytes:
    return ", ".join([f'"{label}";{rule.policy}' for _, label, rule in limits]).encode()


def ledgers(levels: dict[str, Level]) -> dict[str, dict[str, int]]:
    """Returns the ledger of each model that an account has asked, given the account's levels."""
    found: dict[str, dict[str, int]] = {}
    for name, (level, _) in levels.items():
        model, _, rest = name.partition("/")
        if rest.startswith("ledger/"):
            found.setdefault(model, dict.fromkeys(ENTRIES, 0))[rest.removeprefix("ledger/")] = int(level)
    return found
