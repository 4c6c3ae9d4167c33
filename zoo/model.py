"""The protocol of all models."""

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
    """A trained classifier, or an encoder, whose answers are embeddings.

    Attributes:
        family: The family with its fields.
        training: Parameters of its last training; None if it was not trained by gradient descent.
        checkpoints: Its tensors at all checkpoints but the last, earliest first; empty if none were kept.
    """

    family: Family
    training: Training | None = None
    checkpoints: Sequence[Tensors] = ()

    def card(self) -> Card:
        """Returns the model's card, with an empty name: the rows that it takes, and what it answers."""
        ...

    def predict(self, x: Array) -> Array:
        """Returns class probabilities, or embeddings, ``(n, k)``, of rows ``x``, ``(n, *input_shape)``.

        They are float32, or float64 if the weights are.
        """
        ...

    def tensors(self) -> Tensors:
        """Returns everything the model learnt, by name, on the CPU."""
        ...

    def network(self) -> Network:
        """Returns the torch network that computes the predictions.

        Raises:
            BadInput: The model is not a torch network.
        """
        ...
