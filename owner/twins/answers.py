"""The queries of the twin test, and the answers of the victim and its twins, which are kept in a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from owner.twins.kept import Kept
from owner.twins.twins import Twins
from wire import Array, Labels, Malformed, Oracle


@dataclass(frozen=True)
class Holdings:
    """The owner's holdings for the twin test.

    Attributes:
        twins: The victim, its twins and the reference rows.
        independent: Models known not to be stolen, by name.
    """

    twins: Twins
    independent: Mapping[str, Oracle]


@dataclass(frozen=True, eq=False)
class Answers(Kept):
    """The answers of the victim and its twins.

    Attributes:
        chosen: Numbers of the chosen reference rows, ``(m,)``.
        probs: The models' probabilities for all queries, ``(M + 1, n, k)`` float32.
    """

    chosen: Labels
    probs: Array


@dataclass(frozen=True, eq=False)
class Study:
    """The study that the tests of all suspects share.

    Attributes:
        holdings: The owner's holdings.
        answers: The chosen rows, and the models' answers.
        x: The queries, ``(n, *input_shape)``: the chosen rows, then the copies of each.
    """

    holdings: Holdings
    answers: Answers
    x: Array

    @property
    def about(self) -> dict[str, Any]:
        """The study's part of the evidence."""
        twins = self.holdings.twins
        return {
            "root": twins.root,
            "models": twins.count,
            "chosen": len(self.answers.chosen),
            "guessable_seed": twins.guessable_seed,
            "commitments": twins.commitments,
        }

    def ask(self, suspect: Oracle) -> Labels:
        """Returns a suspect's labels for the queries, ``(n,)``, or for the first ones if it stops early.

        Raises:
            WireError: It answered none.
            Malformed: It knows other classes than the models.
        """
        labels = suspect.collect(self.x).labels
        if suspect.ended is not None and not len(labels):
            raise suspect.ended
        return self._checked(suspect, labels)

    def ask_again(self, model: Oracle, count: int) -> Labels:
        """Returns another model's labels for the first queries, ``(count,)``."""
        return self._checked(model, model.query(self.x[:count]).labels)

    def _checked(self, model: Oracle, labels: Labels) -> Labels:
        classes = self.answers.probs.shape[2]
        if labels.max() >= classes:
            raise Malformed(f"{model.card.model} answered with class {labels.max()}; expected 0 to {classes - 1}")
        return labels
