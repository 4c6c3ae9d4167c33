"""Union: a row is a member if one of several attacks says so, at one false positive rate for all together.

Source: arXiv:2506.13972, CCS 2025 (attacks of equal worth find different members, so that one alone is not an
audit). How the attacks are joined is this project's own: the false positive rates are
those of the population, which the victim has not seen; no truth about candidates is used.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from attacker.membership.label_only import LabelOnly
from attacker.membership.lira import Lira
from attacker.membership.references import Compared, Referenced
from attacker.membership.rmia import Rmia
from wire import Array, BadInput, Card

MEMBERS: tuple[type[Referenced], ...] = (Lira, Rmia, LabelOnly)
TIE = 1e-9


@dataclass(frozen=True)
class Union(Referenced):
    """Union of attacks: the members that LiRA, RMIA or the label-only attack finds, at one rate (CCS 2025).

    All attacks compare the same answers with the same reference models. The score of a row by one attack is the
    share of the population whose score is at least as high. The score of the union is the least of these shares,
    as a rank among those of the population, with the sign changed. So an attack alone decides about a row, and the
    threshold holds the false positive rate of all together.

    Attributes:
        fpr: False positive rate at which the attack decides.
        queries: Noisy copies of each row for the label-only attack, the row itself included.
    """

    fpr: float = 0.01
    queries: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.fpr < 1 or self.queries < 1 or self.references < 4:
            raise BadInput(
                f"{self}: fpr must lie between 0 and 1, queries be at least 1, and references at least 4"
            )

    @property
    def threshold(self) -> float:
        """The score that a share ``fpr`` of the population exceeds."""
        return -self.fpr

    def copied(self, card: Card, rows: Array) -> Array:
        """Returns the label-only attack's copies of rows."""
        return LabelOnly(queries=self.queries).copied(card, rows)

    def values(self, found: Compared) -> Array:
        """Returns the rank of each row's least share, with the sign changed."""
        shares = []
        for attack in MEMBERS:
            shared = {field.name: getattr(self, field.name) for field in fields(Referenced)}
            seen = found if attack is LabelOnly else found.of_first_copies()
            values = attack(**shared).values(seen)
            shares.append(_share(-values, -values[: found.population]))
        least = np.min(shares, axis=0)
        ties = TIE * np.mean(shares, axis=0)  # rows ahead of the whole population are ordered by all attacks
        return np.asarray(-_share(least, least[: found.population]) - ties)


def _share(values: Array, population: Array) -> Array:
    """Returns the share of the population, and of the row itself, whose value is at most each row's."""
    known = np.sort(population[np.isfinite(population)])
    below = np.searchsorted(known, values, side="right")
    return np.asarray((below + 1) / (len(known) + 1))
