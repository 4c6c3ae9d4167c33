"""The protocol that every model keeps, whatever its family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from wire import Array, Card
from zoo.tensors import Tensors
from zoo.training import Training

if TYPE_CHECKING:
    from zoo.families.family import Family
    from zoo.network import Network


class Model(Protocol):
    """A trained classifier.

    Attributes:
        family: The family with its fields.
        training: How it was last trained; None if it was not, or not by gradients.
        checkpoints: Its tensors at the checkpoints before the last, from the earliest on; empty if none were kept.
    """

    family: Family
    training: Training | None = None
    checkpoints: Sequence[Tensors] = ()

    def card(self) -> Card:
        """Returns which rows the model takes and which classes it knows; its ``model`` is empty."""
        ...

    def predict(self, x: Array) -> Array:
        """Returns class probabilities, ``(n, k)`` float32, of rows ``x``, ``(n, *input_shape)``."""
        ...

    def tensors(self) -> Tensors:
        """Returns everything that the model learnt, by name, on the CPU."""
        ...

    def network(self) -> Network:
        """Returns the torch network that computes the answers, which has gradients, layers and checkpoints.

        Raises:
            BadInput: The model is no torch network.
        """
        ...
