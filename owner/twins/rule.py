"""Machinery of the twin test: its committed rule, its queries, and the file of its study."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from owner.ownership import About, Committing
from owner.twins.answers import Answers, Holdings, Study
from owner.twins.near_copies import near_copies
from wire import Array, BadInput, Card


class Rule(Committing):
    """The base of the twin test: checks its fields, and keeps its study. For the fields see the test itself."""

    rows: int
    copies: bool
    ridge: float
    alpha: float
    margin: float
    least: float
    tries: int

    def __post_init__(self) -> None:
        if self.rows < 1 or self.tries < 1:
            raise BadInput(f"rows and tries must be at least 1, not {self.rows} and {self.tries}")
        if not (0 < self.ridge < np.inf and 0 < self.alpha < 1):
            raise BadInput(
                f"ridge must be greater than 0 and alpha between 0 and 1, not {self.ridge} and {self.alpha}"
            )
        if not (0 <= self.margin < np.inf and 0 <= self.least < np.inf):
            raise BadInput(f"margin and least must be at least 0, not {self.margin} and {self.least}")

    def check(self, suspect: Card, holdings: Holdings) -> None:
        """Raises :class:`~wire.BadInput` if the settings are not those committed to, or a model does not fit."""
        holdings.twins.check_settings("twin-test", self.committed())
        for card in (suspect, *(model.card for model in holdings.independent.values())):
            holdings.twins.check_fit(card)

    def queries(self, x: Array, card: Card) -> Array:
        """Returns the chosen rows, and after them the near copies of each if they are images."""
        images = self.copies and len(card.input_shape) == 3
        return np.concatenate([x, near_copies(x, card)]) if images else x

    def save_study(self, study: Study, path: Path, about: About) -> None:
        """Writes the models' answers."""
        study.answers.save(path, study.holdings.twins.root)

    def load_study(self, path: Path, holdings: Holdings, about: About) -> Study:
        """Reads the models' answers, or raises :class:`~wire.BadInput` if they belong to another study."""
        answers = Answers.load(path, holdings.twins.root)
        x = self.queries(holdings.twins.reference.x[answers.chosen], holdings.twins.card)
        return Study(holdings, answers, x)
