"""Admission: every limit and the ledger, changed in one atomic step of the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from defenses.admission.price import ENTRIES, Price
from defenses.admission.rule import Rule
from defenses.admission.slowed import Slowed
from defenses.defense import Handler
from defenses.store import Behind, Charge, Level, Meter, Store
from wire import Answer, BadInput, Card, Query, Refused

EVERYWHERE = "*"  # the scope of limits that hold over all models together


@dataclass(frozen=True)
class Admission:
    """Lets a query pass if every limit does, and bills it; what was not answered is given back.

    All meters of an account change together or not at all. A request that names a receipt is billed once within
    ten minutes, however often it is retried; the rate limit counts each retry.

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
    limits: Sequence[Rule]
    price: Price
    store: Store
    overall: Sequence[Rule] = ()
    seen: Callable[[], int] | None = None
    alarms: Callable[[str], Iterable[Mapping[str, Any]]] | None = None
    _scoped: tuple[tuple[str, Rule], ...] = field(init=False, repr=False)
    _entries: list[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        scoped = [(f"{EVERYWHERE}/{rule.name}", rule) for rule in self.overall]
        scoped += [(f"{self.model}/{rule.name}", rule) for rule in self.limits]
        names = [name for name, _ in scoped]
        for name in names:
            if names.count(name) > 1:
                raise BadInput(f"two limits are kept as {name}; expected one")
        object.__setattr__(self, "_scoped", tuple(scoped))
        object.__setattr__(self, "_entries", [f"{self.model}/ledger/{entry}" for entry in ENTRIES])

    async def __call__(self, query: Query, handle: Handler) -> Answer:
        """Answers, refuses or fails; only what is answered is billed.

        Raises:
            Refused: A limit or an alarm refuses, or the store is away (503).
            Behind: The control log has grown beyond what was read.
        """
        rows, at = len(query.x), query.at
        seen = None if self.seen is None else self.seen()
        scoped = self._scoped
        if alarms := () if self.alarms is None else self.alarms(query.account):
            if any(alarm["reaction"] == "refuse" for alarm in alarms):
                await self._refuse(query, seen)
            slowed = [Slowed(alarm["at"]) for alarm in alarms if alarm["reaction"] == "slow"][:1]
            scoped = (*scoped, *((f"{self.model}/{rule.name}", rule) for rule in slowed))
        meters = [rule.meter(name, rows, at) for name, rule in scoped]
        meters += map(Meter, self._entries, self.price.amounts(rows))
        charge = Charge(query.account, meters, at, query.receipt, seen)
        verdict = await self.store.charge(charge)
        if verdict.kind == "behind":
            raise Behind(f"the control log has grown beyond {seen}")
        if verdict.kind == "over":
            raise scoped[verdict.meter][1].refusal(rows, verdict.level, at)
        try:
            return await handle(query)
        except BaseException:
            await self.store.refund(charge)
            raise

    async def _refuse(self, query: Query, seen: int | None) -> None:
        """Refuses, unless the alarm may have been cleared."""
        if (await self.store.charge(Charge(query.account, (), query.at, seen=seen))).kind == "behind":
            raise Behind(f"the control log has grown beyond {seen}")
        raise Refused(f"this account raised an alarm, and model {self.model} answers it no more", status=403)

    def disclose(self, card: Card) -> Card:
        """Returns the card as it is seen through the limits."""
        for _, rule in self._scoped:
            card = rule.disclose(card)
        return card

    def left(self, levels: dict[str, Level], at: float) -> dict[str, int]:
        """Tells for each limit how many rows may pass at the time ``at``, given the account's levels."""
        return {
            name: rule.left(levels[name].at(rule.meter(name, 0, at)).level if name in levels else 0)
            for name, rule in self._scoped
        }


def ledgers(levels: dict[str, Level]) -> dict[str, dict[str, int]]:
    """Returns the ledger of each model that an account has asked, given the account's levels."""
    found: dict[str, dict[str, int]] = {}
    for name, (level, _) in levels.items():
        model, _, rest = name.partition("/")
        if rest.startswith("ledger/"):
            found.setdefault(model, dict.fromkeys(ENTRIES, 0))[rest.removeprefix("ledger/")] = int(level)
    return found
