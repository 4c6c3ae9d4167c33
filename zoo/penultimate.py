"""What a network's last layer is given: the activations that stand for a row."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn

from wire import Array, BadInput
from zoo.network import Network


class Above(nn.Module):
    """Says of each unit of a network whether its activation is above a limit.

    As logits it gives the limits and the activations, ``(n, 2, units)``: the second is the likelier where the
    activation is above.
    """

    limits: torch.Tensor

    def __init__(self, module: nn.Module, limits: Array) -> None:
        """Takes the module from rows to activations, ``(n, units)``, and the limits, ``(units,)`` float32."""
        super().__init__()
        self.module = module
        self.register_buffer("limits", torch.tensor(limits))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Returns the logits."""
        activations = self.module(rows)
        return torch.stack([self.limits.expand_as(activations), activations], dim=1)


def inner(network: Network) -> Network:
    """Returns a copy without the last layer, on a CPU: its logits are what that layer is given, ``(n, units)``.

    Raises:
        BadInput: The last layer is not linear, or its weights are not float32.
    """
    name, last = list(network.module.named_modules())[-1]
    if not isinstance(last, nn.Linear) or last.weight.dtype != torch.float32:
        raise BadInput(f"the network has no inner layer: it ends in {last}; expected a linear map in float32")
    module = deepcopy(network.module)
    module.set_submodule(name, nn.Identity())
    return _with(network, module)


def above(network: Network, limits: Array) -> Network:
    """Returns a network on a CPU which answers as :class:`Above`.

    Args:
        network: The network.
        limits: What each unit of its inner layer is compared with, ``(units,)`` float32.

    Raises:
        BadInput: There is no inner layer.
    """
    return _with(network, Above(inner(network).module, limits))


def _with(network: Network, module: nn.Module) -> Network:
    return Network(
        module,
        network.family,
        network.input_shape,
        network.class_names,
        low=network.low,
        high=network.high,
        device="cpu",
    )
