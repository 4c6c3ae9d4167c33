"""The two protocols that every model keeps."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from wire import Array, Labels


@runtime_checkable
class Classifier(Protocol):
    """A model that can be asked for class probabilities."""

    @property
    def classes(self) -> int:
        """Number of classes k."""
        ...

    def predict(self, x: Array) -> Array:
        """Returns class probabilities, ``(n, k)`` float32, of rows ``x``, ``(n, *input_shape)``."""
        ...


@runtime_checkable
class Differentiable(Classifier, Protocol):
    """A classifier whose gradients can be had (one's own model, never a served one)."""

    def gradient(self, x: Array, labels: Labels) -> Array:
        """Returns, for each row, the gradient of its label's probability.

        Args:
            x: Rows, ``(n, *input_shape)``.
            labels: Class of which to differentiate the probability, ``(n,)``.

        Returns:
            The gradients, ``(n, *input_shape)`` float32.
        """
        ...
