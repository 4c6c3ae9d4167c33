"""An oracle that spreads rows over several accounts.

Source: Juuti, Szyller, Marchal, Asokan, "PRADA: Protecting against DNN Model Stealing Attacks", EuroS&P 2019,
section VI (several clients that collude).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from wire import Answer, Array, BadInput, Oracle, WireError

Strategy = Literal["round-robin", "class", "random"]

KNOWN = 2000  # answered rows among which a row's nearest is sought, to guess its class


class Split(Oracle):
    """Spreads rows over several accounts of one victim.

    Each row goes to one account. The rows of an account that is refused for good go to the others.

    - ``round-robin``: the accounts take turns, row by row;
    - ``random``: each row goes to an account drawn at random;
    - ``class``: an account asks about some classes only. The class of a row is not known before it is asked about,
      so that of the nearest row answered so far stands for it; without answers, accounts take turns.
    """

    def __init__(
        self, accounts: Sequence[Oracle], budget: int | None, split: Strategy, rng: np.random.Generator
    ) -> None:
        """Joins accounts.

        Args:
            accounts: An oracle for each account.
            budget: Maximum number of rows of all accounts together; None for no limit.
            split: How rows are spread.
            rng: Draws the accounts of a random split, and the answered rows that are remembered.

        Raises:
            BadInput: There is no account, or rows without distances are split by class.
        """
        if not accounts:
            raise BadInput("there is no account to ask with; expected at least one key")
        super().__init__(unreached, accounts[0].card, budget)
        if split == "class" and self.card.dtype == "BYTES":
            raise BadInput("texts have no nearest neighbour to guess a class from; use round-robin or random")
        self.accounts = accounts
        self._alive = list(range(len(accounts)))
        self._split, self._rng = split, rng
        self._turn = 0
        self._known: Array = np.empty((0, math.prod(self.card.input_shape)), np.float32)
        self._classes: Array = np.empty(0, np.int64)

    @property
    def spent(self) -> int:
        """Rows answered so far, by all accounts."""
        return sum(account.spent for account in self.accounts)

    @property
    def requests(self) -> int:
        """Requests answered so far, by all accounts."""
        return sum(account.requests for account in self.accounts)

    @property
    def money(self) -> int | None:
        """Micro-cents spent so far, by all accounts; None if the prices of some are unknown."""
        bills = [account.money for account in self.accounts]
        return None if None in bills else sum(bill for bill in bills if bill is not None)

    def halt(self, why: str = "interrupted") -> None:
        """Ends the budget of every account."""
        super().halt(why)
        for account in self.accounts:
            account.halt(why)

    def _ask(self, x: Array) -> tuple[Answer, WireError | None]:
        parts, size = list[Answer](), self.card.max_rows * len(self.accounts)
        for start in range(0, len(x), size):
            part, ended = self._round(x[start : start + size])
            parts.append(part)
            if ended is not None:
                return Answer.join(parts), ended
        return Answer.join(parts), None

    def _round(self, x: Array) -> tuple[Answer, WireError | None]:
        """Asks about some rows, and about those of an account that ended again with the others."""
        rows, told, ended = np.arange(len(x)), list[tuple[Array, Answer]](), None
        while len(rows) and self._alive:
            missing = list[Array]()
            account_of = self._assigned(x[rows])
            for account in list(self._alive):
                mine = rows[account_of == account]
                if not len(mine):
                    continue
                oracle = self.accounts[account]
                answer = oracle.collect(x[mine])
                told.append((mine[: len(answer)], answer))
                if oracle.ended is not None:
                    ended = oracle.ended
                    self._alive.remove(account)
                    missing.append(mine[len(answer) :])
            rows = np.sort(np.concatenate([*missing, rows[:0]]))
        answer = _first(told)
        self._remember(x[: len(answer)], answer)
        return answer, ended if len(rows) else None

    def _assigned(self, x: Array) -> Array:
        """Returns the account of each row, ``(n,)``."""
        alive = np.array(self._alive)
        if self._split == "random":
            chosen = self._rng.integers(len(alive), size=len(x))
        elif self._split == "class" and len(self._known):
            chosen = self._classes[_nearest(_flat(x), self._known)] % len(alive)
        else:
            chosen = (self._turn + np.arange(len(x))) % len(alive)
            self._turn += len(x)
        accounts: Array = alive[chosen]
        return accounts

    def _remember(self, x: Array, answer: Answer) -> None:
        if self._split == "class" and len(answer):
            known = np.concatenate([self._known, _flat(x)])
            kept = self._rng.permutation(len(known))[:KNOWN]
            self._known, self._classes = known[kept], np.concatenate([self._classes, answer.labels])[kept]


def unreached(x: Array) -> Answer:
    """Stands for the transport of an oracle that asks other oracles, and is never called."""
    raise AssertionError("rows travel through the oracles of accounts")


def _first(told: Sequence[tuple[Array, Answer]]) -> Answer:
    """Joins answers about rows of a batch, in their order, up to the first row without one."""
    if not told:
        return Answer.join([])
    rows = np.concatenate([mine for mine, _ in told])
    order = np.argsort(rows)
    whole = int((rows[order] == np.arange(len(rows))).cumprod().sum())
    return Answer.join([answer for _, answer in told if len(answer)])[order[:whole]]


def _flat(x: Array) -> Array:
    return np.nan_to_num(x.reshape(len(x), -1)).astype(np.float32)


def _nearest(x: Array, known: Array) -> Array:
    """Returns the place in ``known`` of the nearest row to each of ``x``."""
    nearest: Array = ((known**2).sum(axis=1) - 2 * x @ known.T).argmin(axis=1)
    return nearest
