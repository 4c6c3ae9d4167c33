"""Models that can be evaluated beside the served one, on the same rows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from wire import Array

Forward = Callable[[Array], Awaitable[Array]]
"""From rows ``(n, *input_shape)``, in the wire's type, to ``(n, ...)`` float32."""


class Companions(Protocol):
    """The companions of one victim, on its device; queries that arrive together share their passes.

    A companion is made at the first request for it, in a thread, and kept. Layers request theirs at start too, so
    that faults are found then. A further kind of companion is one more method here and in the server's
    ``deployment/companions.py``, which serves any network from rows to ``(n, k, ...)``.
    """

    async def checkpoints(self) -> Forward:
        """Returns the victim's checkpoints but the last, earliest first.

        The result has shape ``(n, k, c)``: class probabilities at c checkpoints. It costs c forward passes.

        Raises:
            BadInput: The victim was saved without checkpoints.
        """
        ...

    async def load(self, folder: Path) -> Forward:
        """Returns a saved model, as class probabilities ``(n, k)``.

        Raises:
            BadInput: The folder is broken, or its model takes other rows than the victim.
        """
        ...

    async def activations(self, rows: Array) -> Array:
        """Returns the input of the victim's last layer, ``(n, units)`` float32; for use at start only.

        Raises:
            BadInput: The victim has no such layer, or takes other rows.
        """
        ...

    async def activation_bits(self, limits: Array) -> Forward:
        """Returns a pass that compares each of these activations with a limit.

        It runs on a CPU whatever the victim's device, so a row's bits depend on that row alone. The result has
        shape ``(n, 2, units)``; the second entry is the greater one where the activation exceeds its limit.

        Args:
            limits: The limits, ``(units,)`` float32.

        Raises:
            BadInput: The victim has no such layer.
        """
        ...
