"""The protocol of a model family, and the base class of families trained by gradient descent."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import torch
from torch import nn

from wire import Card
from zoo.data.pool import Pool
from zoo.model import Model
from zoo.network import Network
from zoo.tensors import Tensors, Unallocated, check_module, fill
from zoo.training import Training


class Family(Protocol):
    """A frozen dataclass of a model's hyper-parameters.

    Attributes:
        texts: Whether its models take texts instead of numbers.
        tabular: Whether its models take missing features and category codes.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]
    texts: ClassVar[bool]
    tabular: ClassVar[bool]

    def train(self, pool: Pool, training: Training, seed: int, *, device: str | None, label: str) -> Model:
        """Trains a model on labelled rows.

        Args:
            pool: The rows.
            training: Training parameters of networks; other families ignore them.
            seed: Random seed.
            device: Torch device for training and inference; None for CUDA if available.
            label: Name of the progress bar.

        Raises:
            BadInput: The family does not take these rows.
        """
        ...

    def restore(self, card: Card, tensors: Tensors, *, device: str | None) -> Model:
        """Returns the model with these learnt tensors.

        Args:
            card: The model's card.
            tensors: The tensors read from a file.
            device: Torch device for inference; None for CUDA if available.

        Raises:
            ValueError: The tensors do not fit the family or the card.
        """
        ...


class Architecture(Family):
    """Base class of families trained by gradient descent; a subclass defines the network."""

    texts: ClassVar[bool] = False
    tabular: ClassVar[bool] = False

    def module(self, input_shape: tuple[int, ...], classes: int) -> nn.Module:
        """Returns an untrained module from rows, ``(n, *input_shape)``, to logits, ``(n, classes)``."""
        raise NotImplementedError

    def train(self, pool: Pool, training: Training, seed: int, *, device: str | None, label: str) -> Network:
        """Trains a network; see :class:`Family`."""
        network = Network.untrained(self, pool.card(), seed=seed, device=device)
        assert pool.y is not None
        return network.fit(pool.x, pool.y, training, seed=seed, label=label)

    def restore(self, card: Card, tensors: Tensors, *, device: str | None) -> Network:
        """Returns a trained network; see :class:`Family`.

        The tensors are compared with the network's before it takes any memory, so a card alone cannot ask for it.
        If all weights are float64, so is the network.
        """
        floats = {tensor.dtype for tensor in tensors.values() if tensor.dtype.is_floating_point}
        dtype = torch.float64 if floats == {torch.float64} else torch.float32
        try:
            with Unallocated():
                module = self.module(card.input_shape, card.classes).to(dtype)
        except (RuntimeError, TypeError, OverflowError) as error:
            fault = str(error).partition("\n")[0]
            raise ValueError(f"{self} for rows {card.input_shape} cannot be made: {fault}") from None
        check_module(tensors, module)
        network = Network.untrained(self, card, seed=0, device=device)
        network.module.to(dtype)
        fill(network.module, tensors)
        return network
