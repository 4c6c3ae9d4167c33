"""Models that defences can evaluate beside the served one, on the same rows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from wire import Array

Forward = Callable[[Array], Awaitable[Array]]
"""Maps rows ``(n, *input_shape)``, in the wire's dtype, to ``(n, ...)`` float32."""


class Companions(Protocol):
    """The companion models of one victim, on its device; concurrent queries share forward passes.

    A companion is loaded at the first request for it, in a thread, and kept. Layers also request theirs at start,
    so that faults are found early. To add a kind of companion, add a method here and in the server's
    ``deployment/companions.py``, which serves any network from rows to ``(n, k, ...)``.
    """

    async def checkpoints(self) -> Forward:
        """Returns the victim's checkpoints except the last, earliest first.

        Its output has shape ``(n, k, c)``: class probabilities at c checkpoints. It costs c forward passes.

        Raises:
            BadInput: The victim was saved without checkpoints.
        """
        ...

    async def load(self, folder: Path) -> Forward:
        """Returns a saved model, as class probabilities ``(n, k)``.

        Raises:
            BadInput: The folder is invalid, or its model and the victim take different rows.
        """
        ...

    async def activations(self, rows: Array) -> Array:
        """Returns the input of the victim's last layer, ``(n, units)`` float32; for use at start only.

        Raises:
            BadInput: The victim has no such layer, or does not take these rows.
        """
        ...

    async def activation_bits(self, limits: Array) -> Forward:
        """Returns a forward pass that compares each of these activations with a limit.

        It always runs on the CPU, so that a row's bits depend on that row alone. Its output has shape
        ``(n, 2, units)``; the second entry is larger if the activation exceeds its limit.

        Args:
            limits: The limits, ``(units,)`` float32.

        Raises:
            BadInput: The victim has no such layer.
        """
        ...
