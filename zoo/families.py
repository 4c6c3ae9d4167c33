"""The model families, by name."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from torch import nn

from zoo.cnn import Cnn
from zoo.logistic import Softmax
from zoo.mlp import Mlp
from zoo.resnet import Resnet


class Family(Protocol):
    """A frozen dataclass whose fields say how large a network is."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def module(self, input_shape: tuple[int, ...], classes: int) -> nn.Module:
        """Returns an untrained module from rows, ``(n, *input_shape)``, to logits, ``(n, classes)``."""
        ...


FAMILIES: dict[str, type[Family]] = {"softmax": Softmax, "mlp": Mlp, "cnn": Cnn, "resnet": Resnet}


def name_of(family: Family) -> str:
    """Returns the name under which a family stands in :data:`FAMILIES`."""
    return next(name for name, cls in FAMILIES.items() if type(family) is cls)
