"""Families fitted without gradients; the sizes of their tensors depend on the training rows."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from torch import nn

from wire import Array, BadInput, Card
from zoo.data.pool import Pool
from zoo.families.family import Family
from zoo.network import Network
from zoo.tensors import Tensors
from zoo.training import Training


class Fitted(Family):
    """Base class of these families; a subclass defines what is fitted and which module predicts with it."""

    texts: ClassVar[bool] = False
    tabular: ClassVar[bool] = False

    def fit(self, pool: Pool, seed: int) -> Tensors:
        """Fits the tensors to labelled rows.

        Raises:
            BadInput: The family cannot be fitted to these rows.
        """
        raise NotImplementedError

    def module(self, tensors: Tensors, input_shape: tuple[int, ...], classes: int) -> nn.Module:
        """Returns the module from rows, ``(n, *input_shape)``, to logits, ``(n, classes)``.

        Raises:
            ValueError: The tensors do not fit the family or the shape of the rows.
        """
        raise NotImplementedError

    def train(self, pool: Pool, training: Training, seed: int, *, device: str | None, label: str) -> Network:
        """Fits a model; see :class:`Family`."""
        return self.restore(pool.card(), self.fit(pool, seed % 2**32), device=device)

    def restore(self, card: Card, tensors: Tensors, *, device: str | None) -> Network:
        """Returns a fitted model; see :class:`Family`."""
        module = self.module(tensors, card.input_shape, card.classes)
        return Network(module, self, card, device=device)


def flat(pool: Pool, *, least: int = 1) -> tuple[Array, Array]:
    """Returns flattened rows, ``(n, d)``, and labels, ``(n,)``, in which every class must occur.

    Raises:
        BadInput: A class has fewer than ``least`` rows.
    """
    assert pool.y is not None
    counts = np.bincount(pool.y, minlength=len(pool.class_names))
    if counts.min() < least:
        name = pool.class_names[counts.argmin()]
        raise BadInput(f"class {name!r} has {counts.min()} training rows; expected at least {least}")
    return pool.x.reshape(len(pool), -1), pool.y
