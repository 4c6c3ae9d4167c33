"""Admission: every limit and the ledger, changed in one atomic step of the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from defenses.admission.price import Price
from defenses.admission.rule import Rule, State
from defenses.defense import Handler
from defenses.store import Documents, Store
from wire import Answer, Card, Query

RECEIPT_SECONDS = 600.0


@dataclass(frozen=True)
class Admission:
    """Lets a query pass if every rule does, and bills it; what was not answered is given back.

    All rules of an account change together or not at all. A request that names a receipt is billed once within
    ten minutes, however often it is retried.

    Attributes:
        model: Name of the victim; limits are kept per account and model.
        limits: The limits.
        price: The ledger.
        store: Where accounts' documents are kept.
    """

    model: str
    limits: Sequence[Rule]
    price: Price
    store: Store

    async def __call__(self, query: Query, handle: Handler) -> Answer:
        """Answers, refuses or fails; only what is answered is billed."""
        usage, rows = f"usage/{query.account}", len(query.x)
        receipt = f"receipt/{query.account}/{query.receipt}" if query.receipt else None
        keys = [usage] if receipt is None else [usage, receipt]

        def take(documents: Documents) -> bool:
            if receipt is not None:
                billed = documents.get(receipt)
                if billed is not None and query.at - billed["at"] < RECEIPT_SECONDS:
                    return False
                documents[receipt] = {"at": query.at}
            state = self._state(documents, usage)
            for rule in self._rules:
                rule.take(state.setdefault(rule.name, {}), rows, query.at)
            return True

        def give_back(documents: Documents) -> None:
            if receipt is not None:
                documents.pop(receipt, None)
            state = self._state(documents, usage)
            for rule in self._rules:
                rule.give_back(state.setdefault(rule.name, {}), rows, query.at)

        keep = {} if receipt is None else {receipt: query.at + RECEIPT_SECONDS}
        billed = await self.store.transact(keys, take, keep=keep, now=query.at)
        try:
            return await handle(query)
        except BaseException:
            if billed:
                await self.store.transact(keys, give_back)
            raise

    def disclose(self, card: Card) -> Card:
        """Returns the card as it is seen through the rules."""
        for rule in self._rules:
            card = rule.disclose(card)
        return card

    @property
    def _rules(self) -> tuple[Rule, ...]:
        return (*self.limits, self.price)

    def _state(self, documents: Documents, usage: str) -> State:
        models: State = documents.setdefault(usage, {}).setdefault("models", {})
        state: State = models.setdefault(self.model, {})
        return state
