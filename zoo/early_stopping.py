"""Early stopping.

Source: Prechelt, "Early Stopping - But When?", Neural Networks: Tricks of the Trade, 1998.
"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch.nn import functional

PASS = 1024  # rows


@dataclass
class EarlyStopping:
    """Ends training once the cross-entropy on held-out rows has not fallen for some epochs.

    Attributes:
        x: Held-out rows, ``(n, *input_shape)``, on the module's device.
        y: Class indices, ``(n,)`` int64, or class probabilities, ``(n, k)``.
        patience: Epochs without an improvement after which training ends.
    """

    x: torch.Tensor
    y: torch.Tensor
    patience: int

    def __post_init__(self) -> None:
        self._best, self._waited, self._weights = math.inf, 0, dict[str, torch.Tensor]()

    @torch.no_grad()
    def after_epoch(self, module: torch.nn.Module) -> bool:
        """Measures a module, keeps the best weights so far, and returns whether training ends."""
        module.eval()
        losses = [
            functional.cross_entropy(module(x), y, reduction="sum").item()
            for x, y in zip(torch.split(self.x, PASS), torch.split(self.y, PASS), strict=True)
        ]
        module.train()
        loss = sum(losses) / len(self.x)
        self._waited += 1
        if loss < self._best:
            self._best, self._waited, self._weights = loss, 0, deepcopy(module.state_dict())
        return self._waited >= self.patience

    def restore(self, module: torch.nn.Module) -> None:
        """Gives a module the best weights; without a measured epoch it keeps its own."""
        if self._weights:
            module.load_state_dict(self._weights)
