"""The protocol of an inversion attack."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from wire import Array, Oracle


@runtime_checkable
class Inversion(Protocol):
    """A frozen dataclass of hyper-parameters that makes a row which stands for a class of the training set."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def invert(self, oracle: Oracle, label: int, rng: np.random.Generator) -> Array:
        """Queries until the row is good enough, or until the victim stops answering.

        Args:
            oracle: The victim's oracle; if the victim stops answering early, ``oracle.ended`` holds the reason.
            label: Index of the class.
            rng: Source of all randomness.

        Returns:
            The row, ``input_shape`` float32.

        Raises:
            NotApplicable: The model does not disclose what the attack needs.
            WireError: Not a single row was answered.
        """
        ...
