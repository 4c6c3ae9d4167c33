"""The model families, by name."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import nn

from zoo.data.pool import Pool
from zoo.families.cnn import Cnn
from zoo.families.fitted import Learnt
from zoo.families.knn import Knn
from zoo.families.logistic import Logistic, Softmax
from zoo.families.mlp import Mlp
from zoo.families.pretrained import Torchvision
from zoo.families.resnet import Resnet
from zoo.families.svm import Svm
from zoo.families.text import Tfidf
from zoo.families.trees import Forest, Gbdt, Tree


class Family(Protocol):
    """A frozen dataclass whose fields say how large a network is."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def module(self, input_shape: tuple[int, ...], classes: int) -> nn.Module:
        """Returns an untrained module from rows, ``(n, *input_shape)``, to logits, ``(n, classes)``."""
        ...


@runtime_checkable
class Learner(Protocol):
    """A frozen dataclass whose fields say how a model is learnt at once, without gradients.

    Attributes:
        tabular: Whether its models take rows with missing features and codes of categories.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]
    tabular: ClassVar[bool]

    def learn(self, pool: Pool, seed: int) -> Learnt:
        """Learns from rows with labels."""
        ...

    def module(self, learnt: Learnt, input_shape: tuple[int, ...], classes: int) -> nn.Module:
        """Returns the module from rows, ``(n, *input_shape)``, to logits, ``(n, classes)``.

        Raises:
            ValueError: What it learnt is not of this family, or not for such rows.
        """
        ...


FAMILIES: dict[str, type[Family]] = {
    "softmax": Softmax,
    "logistic": Logistic,
    "mlp": Mlp,
    "cnn": Cnn,
    "resnet": Resnet,
    "torchvision": Torchvision,
}
"""Networks, trained by gradients."""

LEARNERS: dict[str, type[Learner]] = {"svm": Svm, "tree": Tree, "forest": Forest, "gbdt": Gbdt, "knn": Knn}
"""What learns at once."""

TEXTS = {"tfidf": Tfidf}
"""What takes words."""

AnyFamily = Family | Learner | Tfidf
ALL: dict[str, type[AnyFamily]] = {**FAMILIES, **LEARNERS, **TEXTS}


def name_of(family: AnyFamily) -> str:
    """Returns the name under which a family stands in :data:`ALL`."""
    return next(name for name, cls in ALL.items() if type(family) is cls)
