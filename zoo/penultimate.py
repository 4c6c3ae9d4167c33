"""The activations of a network's penultimate layer, used as features of a row."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn

from wire import Array, BadInput
from zoo.network import Network


class ActivationBits(nn.Module):
    """Compares each activation of a layer with a limit per unit.

    The logits are the limits and the activations, ``(n, 2, units)``: class 1 wins where an activation exceeds its
    limit.
    """

    limits: torch.Tensor

    def __init__(self, module: nn.Module, limits: Array) -> None:
        """Wraps a module from rows to activations, ``(n, units)``, with limits, ``(units,)`` float32."""
        super().__init__()
        self.module = module
        self.register_buffer("limits", torch.tensor(limits))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Returns the logits, ``(n, 2, units)``."""
        activations = self.module(rows)
        return torch.stack([self.limits.expand_as(activations), activations], dim=1)


def penultimate(network: Network) -> Network:
    """Returns a copy on the CPU without the last layer; its logits are that layer's input, ``(n, units)``.

    Raises:
        BadInput: The last layer is not linear, or its weights are not float32.
    """
    name, last = list(network.module.named_modules())[-1]
    if not isinstance(last, nn.Linear) or last.weight.dtype != torch.float32:
        raise BadInput(f"the network ends in {last}; expected a linear layer in float32")
    module = deepcopy(network.module)
    module.set_submodule(name, nn.Identity())
    return Network(module, network.family, network.card(), device="cpu")


def activation_bits(network: Network, limits: Array) -> Network:
    """Returns a network on the CPU that predicts by :class:`ActivationBits`.

    Args:
        network: The network.
        limits: Limit of each unit of the penultimate layer, ``(units,)`` float32.

    Raises:
        BadInput: There is no penultimate layer.
    """
    module = ActivationBits(penultimate(network).module, limits)
    return Network(module, network.family, network.card(), device="cpu")
