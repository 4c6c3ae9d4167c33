"""A linear map whose result for a row does not depend on the row's position in its batch."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

GRAIN = 4  # features: 16 bytes


class Linear(nn.Linear):
    """``torch.nn.Linear`` over rows padded with zeros to a multiple of 16 bytes.

    MKL sums rows that are not aligned to 16 bytes in another order (observed with few outputs; undocumented).
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps rows, ``(n, in_features)``, to ``(n, out_features)``."""
        return linear(x, self.weight, self.bias)


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Maps rows, ``(n, d)``, to ``(n, m)`` by a weight ``(m, d)`` and a bias ``(m,)``; see :class:`Linear`."""
    missing = -x.shape[1] % GRAIN
    if missing:
        weight = functional.pad(weight, (0, missing))
    # Padding copies even if nothing is added, which aligns the rows; a weight is aligned already.
    return functional.linear(functional.pad(x, (0, missing)), weight, bias)
