"""A clone that goes on learning from all labels told so far, with a learning rate that falls by a cosine."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional
from torch.optim import lr_scheduler

from wire import Array, Labels
from zoo.network import Network


class Clone:
    """A network, and the rows whose labels it learns.

    Attributes:
        network: The network.
        rows: How many rows it has.
    """

    def __init__(self, network: Network, most: int, steps: int, batch: int, lr: float) -> None:
        """Makes a clone without rows.

        Args:
            network: As in the class.
            most: Rows that it will have at most.
            steps: Steps after which the learning rate is 0.
            batch: Rows per step.
            lr: Learning rate at first, of gradient descent with momentum.
        """
        self.network, self.rows, self._batch = network, 0, batch
        self._x = np.empty((most, *network.input_shape), np.float32)
        self._y = np.empty(most, np.int64)
        self._learns = torch.optim.SGD(network.module.parameters(), lr, momentum=0.9, weight_decay=5e-4)
        self._falls = lr_scheduler.CosineAnnealingLR(self._learns, max(steps, 1))

    def add(self, x: Array, y: Labels) -> None:
        """Adds rows, ``(n, *input_shape)``, of which the first have labels, ``(m,)``."""
        end = self.rows + len(y)
        self._x[self.rows : end], self._y[self.rows : end] = x[: len(y)], y
        self.rows = end

    def learn(self, steps: int, rng: np.random.Generator) -> None:
        """Takes some steps on random rows."""
        device = self.network.device
        self.network.module.train()
        for _ in range(steps):
            batch = rng.integers(self.rows, size=self._batch)
            logits = self.network.module(torch.from_numpy(self._x[batch]).to(device))
            loss = functional.cross_entropy(logits, torch.from_numpy(self._y[batch]).to(device))
            self._learns.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self._learns.step()
            self._falls.step()
        self.network.module.eval()

    def sameness(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the negative entropy of the mean answer to rows, ``(n, *input_shape)``, with its gradient."""
        mean = self.network.module(x.to(self.network.device)).softmax(dim=1).mean(dim=0)
        same: torch.Tensor = (mean * mean.clamp(min=1e-12).log()).sum().cpu()
        return same
