"""L-BFGS in float64, for weights that are determined by equations."""

from __future__ import annotations

from collections.abc import Callable

import torch

from wire import Array
from zoo.network import Network

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def minimise(
    network: Network, x: Array, y: Array, loss: Loss, steps: int, *, gradient: float = 1e-10, change: float = 1e-14
) -> float:
    """Minimises a loss over all rows at once, from the network's weights, in place; returns what is left of it.

    Args:
        network: The network.
        x: Rows, ``(n, *input_shape)``.
        y: What its outputs are compared with, ``(n, k)``.
        loss: Maps outputs and ``y`` to a number.
        steps: Most iterations.
        gradient: Greatest entry of the gradient at which the search ends.
        change: Change of the weights, or of the loss, at which it ends.
    """
    module = network.module.double().train()
    rows, wanted = (torch.from_numpy(part).double().to(network.device) for part in (x, y))
    search = torch.optim.LBFGS(
        module.parameters(),
        max_iter=steps,
        tolerance_grad=gradient,
        tolerance_change=change,
        history_size=30,
        line_search_fn="strong_wolfe",
    )

    def value() -> torch.Tensor:
        search.zero_grad()
        found = loss(module(rows), wanted)
        found.backward()  # type: ignore[no-untyped-call]
        return found

    search.step(value)  # type: ignore[no-untyped-call]
    left = value().item()
    module.float().eval()
    return left
