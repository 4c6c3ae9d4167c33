"""The oracle: sends rows to a model in chunks, and counts what they cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from wire.errors import BudgetSpent, Malformed, Refused, Unreachable, WireError
from wire.types import Answer, Array, Card


class Transport(Protocol):
    """Sends one batch of at most ``card.max_rows`` rows to a model and returns the answer."""

    def __call__(self, x: Array) -> Answer:
        """Returns the answer to the rows ``x``, ``(n, *input_shape)``."""
        ...


@dataclass(frozen=True, slots=True)
class Prices:
    """The prices that an account pays, as integers in micro-cents (10^-8 of the currency's unit)."""

    per_row: int = 0
    per_request: int = 0


class Oracle:
    """The only way to query a victim, so that no query goes unmetered.

    Only this class divides queries into chunks and bills them. A refusal in the middle of a long query never
    loses the bill.

    Attributes:
        card: The model's card.
        ended: Why the last :meth:`collect` stopped early, or None.
    """

    def __init__(
        self,
        transport: Transport,
        card: Card,
        budget: int | None = None,
        *,
        prices: Prices | None = None,
        on_answer: Callable[[Oracle], None] | None = None,
    ) -> None:
        """Makes an oracle.

        Args:
            transport: Sends the rows.
            card: The model's card.
            budget: Maximum number of rows to query; None for no limit on the client's side.
            prices: Prices of rows and requests, if known.
            on_answer: Called with the oracle after every answered chunk, for a progress bar for example.
        """
        self.card = card
        self.prices = prices
        self.ended: WireError | None = None
        self._transport = transport
        self._budget = budget
        self._halted: str | None = None
        self._on_answer = on_answer
        self._spent = self._requests = 0

    @property
    def spent(self) -> int:
        """Rows answered so far."""
        return self._spent

    @property
    def requests(self) -> int:
        """Requests answered so far."""
        return self._requests

    @property
    def left(self) -> int | None:
        """Rows that the budget still covers; None if there is no budget."""
        if self._halted is not None:
            return 0
        return None if self._budget is None else self._budget - self.spent

    @property
    def money(self) -> int | None:
        """Micro-cents spent so far; None if the prices are unknown."""
        if self.prices is None:
            return None
        return self.prices.per_row * self.spent + self.prices.per_request * self.requests

    def halt(self, why: str = "interrupted") -> None:
        """Ends the budget: every later query raises :class:`BudgetSpent`."""
        self._halted = why

    def query(self, x: Array) -> Answer:
        """Queries all rows.

        Args:
            x: Rows, ``(n, *input_shape)``.

        Returns:
            The answer to all ``n`` rows.

        Raises:
            BudgetSpent: The budget does not cover ``n`` rows; nothing was sent.
            Refused: The server refused; rows that were already answered stay billed.
            Unreachable: The server did not answer.
            Malformed: The reply is not a valid answer.
        """
        self._afford(len(x))
        answer, self.ended = self._ask(x)
        if self.ended is not None:
            raise self.ended
        return answer

    def collect(self, x: Array) -> Answer:
        """Queries rows in order until the budget ends or the server stops answering.

        Where :meth:`query` would raise, this method stops and returns the answers so far; ``ended`` holds the
        reason.

        Args:
            x: Rows, ``(n, *input_shape)``.

        Returns:
            The answer to the first ``m <= n`` rows.
        """
        affordable = len(x) if self.left is None else min(len(x), self.left)
        answer, self.ended = self._ask(x[:affordable])
        if self.ended is None and affordable < len(x):
            self.ended = self._too_many(len(x) - affordable)
        return answer

    def _ask(self, x: Array) -> tuple[Answer, WireError | None]:
        parts: list[Answer] = []
        start, rows = 0, self.card.max_rows
        while start < len(x):
            if self._halted is not None:
                return Answer.join(parts), self._too_many(len(x) - start)
            try:
                part = self._transport(x[start : start + rows])
            except Refused as refused:
                # Use up the quota: ask for as many rows as would pass.
                if refused.left and refused.left < min(rows, len(x) - start):
                    rows = refused.left
                    continue
                return Answer.join(parts), refused
            except (Unreachable, Malformed) as failed:
                return Answer.join(parts), failed
            parts.append(part)
            start += len(part)
            self._spent += len(part)
            self._requests += 1
            if self._on_answer is not None:
                self._on_answer(self)
        return Answer.join(parts), None

    def _afford(self, rows: int) -> None:
        if self.left is not None and rows > self.left:
            raise self._too_many(rows)

    def _too_many(self, rows: int) -> BudgetSpent:
        if self._halted is not None:
            return BudgetSpent(self._halted)
        return BudgetSpent(f"asked for {rows} rows with {self.left} left of a budget of {self._budget}")
