"""A linear map whose sums do not depend on where in its batch a row stands."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

GRAIN = 4  # features: 16 bytes


class Linear(nn.Linear):
    """``torch.nn.Linear`` over rows filled up with zeros to whole 16 bytes.

    MKL sums rows that do not start at 16 bytes in another order (seen with few outputs, and not specified by it).
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps rows, ``(n, in_features)``, to ``(n, out_features)``."""
        missing = -self.in_features % GRAIN
        return functional.linear(
            functional.pad(x, (0, missing)), functional.pad(self.weight, (0, missing)), self.bias
        )
