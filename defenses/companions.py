"""What else may be computed about a victim's rows: models beside the one that is served."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from wire import Array

Forward = Callable[[Array], Awaitable[Array]]
"""From rows ``(n, *input_shape)``, as the victim takes them on the wire, to ``(n, ...)`` float32."""


class Auxiliary(Protocol):
    """Models beside a victim, on its device; rows that are asked about at once share their passes.

    A server fills it into a field ``auxiliary`` of a defence or a detector. What is asked for is made at the first
    call, in a thread, and kept; a layer asks at start too, so that faults are found then. A further kind of pass
    (the victim's inner layer, say) is one more method here and in the server's ``Models``, which makes passes of
    any network from rows to ``(n, k, ...)``.
    """

    async def checkpoints(self) -> Forward:
        """Returns what the victim said at its checkpoints but the last, from the earliest on.

        The passes give class probabilities ``(n, k, c)``, and cost as much as c of the victim's.

        Raises:
            BadInput: It was saved without any.
        """
        ...

    async def load(self, folder: Path) -> Forward:
        """Returns a saved model's class probabilities, ``(n, k)``.

        Raises:
            BadInput: The folder is broken, or its model takes other rows than the victim.
        """
        ...

    async def activations(self, rows: Array) -> Array:
        """Returns what the victim's last layer is given, ``(n, units)`` float32; for a start, not for answers.

        Raises:
            BadInput: The victim has no such layer, or takes other rows.
        """
        ...

    async def above(self, limits: Array) -> Forward:
        """Returns whether each of these activations is above its limit, by passes that cost as the victim's.

        They run on a CPU, whatever the victim's device, and a row's answer depends on that row alone. They give
        ``(n, 2, units)``, of which the second is greater than the first where the activation is above.

        Args:
            limits: The limits, ``(units,)`` float32.

        Raises:
            BadInput: The victim has no such layer.
        """
        ...
