"""The settings of transports, and the oracle that they make."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from attacker.journal import Journal
from attacker.transports.disguised import Disguised, Dummies
from attacker.transports.paced import Paced
from attacker.transports.split import Split
from wire import Array, BadInput, Card, Oracle, Transport
from wire.fits import misfit, ranges, uniform
from wire.patient import Patient

if TYPE_CHECKING:
    from wire.http import Endpoint


@dataclass(frozen=True)
class Transports:
    """How the rows of an attack travel.

    Attributes:
        keys: File of API keys, one a line, in place of one key: rows are spread over their accounts.
        from_prefixes: File of addresses of this machine, or of URLs of proxies, one a line, from which accounts
            connect: the first from the first, and so on, beginning again after the last.
        split: How rows are spread over accounts: in turn, by the class that they probably have, or at random.
        dummies: Share of dummies among all rows that are sent.
        dummy_rows: File of rows that dummies are drawn from; by default uniform over the features' ranges.
        repeats: Times that each row is asked about; the answers are averaged.
        nudge: Largest change of a feature in further repeats, as a share of its range; with 0, these are equal.
        pace: Most rows per second of each account; 0 for no limit of one's own.
        jitter: Greatest deviation of the pauses between requests from their length, as a share of it.
    """

    keys: Path | None = None
    from_prefixes: Path | None = None
    split: Literal["round-robin", "class", "random"] = "round-robin"
    dummies: float = 0.0
    dummy_rows: Path | None = None
    repeats: int = 1
    nudge: float = 0.0
    pace: float = 0.0
    jitter: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.dummies < 1 and 0 <= self.jitter <= 1 and 0 <= self.nudge <= 1):
            raise BadInput(
                f"--dummies {self.dummies:g} must be at least 0 and less than 1, --jitter {self.jitter:g} and "
                f"--nudge {self.nudge:g} must lie between 0 and 1"
            )
        if self.repeats < 1 or not 0 <= self.pace < float("inf"):
            raise BadInput(
                f"--repeats {self.repeats} must be at least 1, --pace {self.pace:g} at least 0 and finite"
            )
        if self.jitter and not self.pace:
            raise BadInput("--jitter changes the pauses of --pace; give a pace, in rows per second")
        if self.nudge and self.repeats == 1:
            raise BadInput("--nudge changes further repeats; give --repeats of at least 2")
        if self.dummy_rows is not None and not self.dummies:
            raise BadInput("--dummy-rows has rows for --dummies; give their share")

    @property
    def rows_for_one(self) -> int:
        """Most rows that are sent for one row of the attack."""
        return self.repeats + math.ceil(self.repeats * self.dummies / (1 - self.dummies))

    def oracle(
        self,
        endpoints: Sequence[Endpoint],
        budget: int | None,
        rng: np.random.Generator,
        *,
        journal: Journal | None = None,
        dummies: Dummies | None = None,
        patience: float = 300.0,
        sleep: Callable[[float], object] = time.sleep,
        now: Callable[[], float] = time.monotonic,
        on_answer: Callable[[Oracle], None] | None = None,
    ) -> Oracle:
        """Returns an oracle whose rows travel this way.

        Args:
            endpoints: The connection of each account to the victim.
            budget: Maximum number of rows to send; None for no limit.
            rng: Source of the transports' randomness; not the attack's, whose rows stay the same.
            journal: Records what is answered, repeats and dummies included.
            dummies: Draws dummies.
            patience: Longest wait for one request, in seconds.
            sleep: Waits for a number of seconds; a true result means that the wait was interrupted.
            now: Returns the time in seconds, on the clock of ``sleep``.
            on_answer: Called with the returned oracle after every answered request.

        Raises:
            BadInput: Rows of this victim cannot travel this way.
        """
        made: list[Oracle] = []

        def answered(_: Oracle) -> None:
            if on_answer is not None:
                on_answer(made[-1])

        def account(endpoint: Endpoint, limit: int | None) -> Oracle:
            sends: Transport = endpoint if journal is None else journal.recorded(endpoint)
            if self.pace:
                sends = Paced(sends, self.pace, self.jitter, rng, sleep=sleep, now=now)
            patient = Patient(sends, patience, sleep)
            return Oracle(patient, endpoint.card, limit, prices=endpoint.prices(), on_answer=answered)

        if len(endpoints) == 1:
            made.append(account(endpoints[0], budget))
        else:
            accounts = [account(endpoint, None) for endpoint in endpoints]
            made.append(Split(accounts, budget, self.split, rng))
        if self.repeats > 1 or self.dummies:
            card = made[0].card
            if self.nudge and card.dtype == "BYTES":
                raise BadInput("--nudge moves numbers, and the rows are texts; give --nudge 0")
            if self.nudge or (self.dummies and dummies is None):
                ranges(card)  # which must be known
            draw = dummies or (lambda n: _uniform(card, n, rng))
            made.append(
                Disguised(
                    made[0], repeats=self.repeats, nudge=self.nudge, dummies=self.dummies, draw=draw, rng=rng
                )
            )
        return made[-1]

    def drawn(self, card: Card, rng: np.random.Generator) -> Dummies | None:
        """Returns a function that draws dummies from the file; None without a file.

        Raises:
            BadInput: The file is invalid or does not fit the victim, or texts are to be sent without a file.
        """
        from zoo.data.pool import Pool

        if self.dummy_rows is None:
            if self.dummies and card.dtype == "BYTES":
                raise BadInput("texts cannot be drawn at random; give --dummy-rows, a file of texts to send along")
            return None
        x = Pool.load(self.dummy_rows).x
        if wrong := misfit(x, card):
            raise BadInput(f"{self.dummy_rows}: {wrong}")
        return lambda n: x[rng.integers(len(x), size=n)]


def _uniform(card: Card, n: int, rng: np.random.Generator) -> Array:
    x = uniform(card, n, rng)
    return np.rint(255 * x).astype(np.float32) / np.float32(255) if card.dtype == "UINT8" else x
