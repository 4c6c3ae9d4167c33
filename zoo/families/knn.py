"""Nearest neighbours."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from wire import BadInput
from zoo.data.pool import Pool
from zoo.families.fitted import Fitted, flat
from zoo.families.svm import squared_distances
from zoo.tensors import Tensors, check, check_range


@dataclass(frozen=True)
class Knn(Fitted):
    """k nearest neighbours by Euclidean distance; a class's probability is its share of the neighbours.

    Source: Cover and Hart, "Nearest Neighbor Pattern Classification", IEEE Transactions on Information Theory 13,
    1967. The model consists of its training rows, which are saved in its folder.

    Attributes:
        neighbours: Number of nearest training rows that vote (k).
    """

    neighbours: int = 5

    def __post_init__(self) -> None:
        if self.neighbours < 1:
            raise BadInput(f"{self}: neighbours must be at least 1")

    def fit(self, pool: Pool, seed: int) -> Tensors:
        """Stores the rows.

        Raises:
            BadInput: There are fewer rows than neighbours.
        """
        x, y = flat(pool)
        if len(x) < self.neighbours:
            raise BadInput(f"{len(x)} rows are fewer than {self.neighbours} neighbours")
        return {"rows": torch.from_numpy(x), "labels": torch.from_numpy(y)}

    def module(self, tensors: Tensors, input_shape: tuple[int, ...], classes: int) -> nn.Module:
        """Returns the module from rows, ``(n, *input_shape)``, to logits, ``(n, classes)``."""
        check(tensors, {"rows": (torch.float32, ("n", math.prod(input_shape))), "labels": (torch.int64, ("n",))})
        check_range("labels", tensors["labels"], 0, classes)
        if len(tensors["labels"]) < self.neighbours:
            raise ValueError(f"{len(tensors['labels'])} rows are fewer than {self.neighbours} neighbours")
        return _Neighbours(tensors, self.neighbours, classes)


class _Neighbours(nn.Module):
    rows: torch.Tensor
    labels: torch.Tensor

    def __init__(self, tensors: Tensors, neighbours: int, classes: int) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)
        self.neighbours, self.classes = neighbours, classes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps rows, ``(n, ...)``, to logits, ``(n, k)``: the logarithms of the shares."""
        distances = squared_distances(x.flatten(1).double(), self.rows.double())
        nearest = distances.topk(self.neighbours, largest=False).indices
        return functional.one_hot(self.labels[nearest], self.classes).sum(1).double().log()
