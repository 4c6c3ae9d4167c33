"""A small encoder of images, whose answers are embeddings in place of classes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from wire import BadInput, Card
from zoo.data.pool import Pool
from zoo.families.cnn import body
from zoo.families.family import Architecture
from zoo.linear import Linear
from zoo.network import Network
from zoo.tensors import Tensors
from zoo.training import Training


class Standardised(nn.Module):
    """Takes a mean from each number, and divides by a scale; at first, by 0 and 1."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, numbers: int) -> None:
        """Makes the layer for rows of so many numbers."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(numbers))
        self.register_buffer("scale", torch.ones(numbers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns rows, ``(n, numbers)``."""
        return (x - self.mean) / self.scale


@dataclass(frozen=True)
class Encoder(Architecture):
    """The convolutional network up to the layer before its classes; its answers are embeddings.

    It is trained as a classifier, of which the last layer is left out in the end: Donahue et al., "DeCAF: A Deep
    Convolutional Activation Feature for Generic Visual Recognition", ICML 2014. Over the training rows, each
    number of an embedding has a mean of 0 and a variance of 1.

    Attributes:
        width: Channels of the first block; the second has twice as many.
        numbers: Numbers of an embedding.
    """

    width: int = 16
    numbers: int = 64

    def __post_init__(self) -> None:
        if self.width < 1 or self.numbers < 2:
            raise BadInput(f"{self}: width must be at least 1, and numbers at least 2")

    def module(self, input_shape: tuple[int, ...], classes: int) -> nn.Module:
        """Returns an untrained module from images, ``(n, c, h, w)``, to embeddings, ``(n, numbers)``.

        Raises:
            BadInput: The rows are not images of at least 8 by 8.
        """
        return nn.Sequential(*body(input_shape, self.width, self.numbers), Standardised(self.numbers))

    def untrained(self, takes: Card, *, seed: int, device: str | None = None) -> Network:
        """Returns an untrained encoder of the rows that a model with this card takes."""
        return Network.untrained(self, self.card(takes), seed=seed, device=device)

    def card(self, takes: Card) -> Card:
        """Returns the card of an encoder of the rows that a model with this card takes."""
        return replace(takes, classes=0, class_names=(), tells_probs=False, embedding=self.numbers)

    def train(self, pool: Pool, training: Training, seed: int, *, device: str | None, label: str) -> Network:
        """Trains an encoder with a last layer of classes, which is left out in the end; see :class:`Family`.

        Raises:
            BadInput: There are checkpoints, which an encoder does not keep.
        """
        if training.checkpoints:
            raise BadInput("an encoder keeps no checkpoints; expected checkpoints = 0")
        assert pool.y is not None
        encoder = self.untrained(pool.card(), seed=seed, device=device)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            last = Linear(self.numbers, len(pool.class_names))
        whole = Network(nn.Sequential(encoder.module, nn.ReLU(), last), self, pool.card(), device=device)
        whole.fit(pool.x, pool.y, training, seed=seed, label=label)
        encoder.module.eval()
        told = torch.from_numpy(encoder.logits(pool.x)).double()
        last_layer = encoder.module[-1]
        last_layer.mean.copy_(told.mean(0))
        last_layer.scale.copy_(told.std(0).clamp(min=1e-6))
        encoder.training = training
        return encoder

    def restore(self, card: Card, tensors: Tensors, *, device: str | None) -> Network:
        """Returns a trained encoder; see :class:`Family`."""
        if card.embedding != self.numbers:
            raise ValueError(f"an encoder of {self.numbers} numbers cannot have a card of {card.embedding}")
        return super().restore(card, tensors, device=device)
