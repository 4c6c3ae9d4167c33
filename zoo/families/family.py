"""What a model family is, and what all families share whose networks are trained by gradients."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from torch import nn

from wire import Card
from zoo.data.pool import Pool
from zoo.model import Model
from zoo.network import Network
from zoo.tensors import Tensors, fill
from zoo.training import Training


class Family(Protocol):
    """A frozen dataclass of a model's hyper-parameters.

    Attributes:
        texts: Whether its models take texts rather than numbers.
        tabular: Whether its models take rows with missing features and codes of categories.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]
    texts: ClassVar[bool]
    tabular: ClassVar[bool]

    def train(self, pool: Pool, training: Training, seed: int, *, device: str | None, label: str) -> Model:
        """Trains a model on rows with labels.

        Args:
            pool: The rows.
            training: How networks are trained; other families ignore it.
            seed: Seeds all that is random.
            device: Where to train and to answer; None chooses CUDA where there is one.
            label: What the progress bar calls it.

        Raises:
            BadInput: The family does not take such rows.
        """
        ...

    def restore(self, card: Card, tensors: Tensors, *, device: str | None) -> Model:
        """Returns the model that learnt these tensors.

        Args:
            card: Which rows it takes and which classes it knows.
            tensors: What was read from a file.
            device: Where to answer; None chooses CUDA where there is one.

        Raises:
            ValueError: The tensors are not those of such a model.
        """
        ...


class Architecture(Family):
    """Base of the families whose networks are trained by gradients: they say what the network is."""

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
        """Returns a trained network; see :class:`Family`."""
        network = Network.untrained(self, card, seed=0, device=device)
        fill(network.module, tensors)
        return network
