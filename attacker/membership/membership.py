"""The protocol of a membership attack."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from attacker.asking import some
from wire import Answer, Array, Labels, Oracle
from zoo.data.pool import Pool


@runtime_checkable
class Membership(Protocol):
    """A frozen dataclass of hyper-parameters that distinguishes members of a training set from other rows.

    Attributes:
        threshold: The attack decides that rows with a greater score are members; None if it only ranks.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def threshold(self) -> float | None:
        """See above."""
        ...

    def infer(self, oracle: Oracle, x: Array, y: Labels, shadow: Pool, rng: np.random.Generator) -> Array:
        """Scores candidates; how often each is asked about is limited only by the budget.

        Args:
            oracle: The victim's oracle; if the victim stops answering early, ``oracle.ended`` holds the reason.
            x: Candidates, ``(n, *input_shape)``.
            y: The candidates' true labels, ``(n,)``.
            shadow: Labelled rows from the candidates' distribution; unused by attacks without shadow models.
            rng: Source of all randomness.

        Returns:
            Scores, ``(n,)`` float64, higher for members; NaN for an unanswered candidate.

        Raises:
            NotApplicable: The model discloses labels only, and the attack needs more.
            WireError: Not a single row was answered.
        """
        ...


def ask(oracle: Oracle, x: Array, rng: np.random.Generator) -> tuple[Array, Answer]:
    """Queries candidates in random order, so that an early end leaves a fair sample.

    Returns:
        The indices of the answered candidates, ``(m,)``, and the answer to them.
    """
    order = rng.permutation(len(x))
    answer = some(oracle, x[order])
    return order[: len(answer)], answer
