"""The model families, by name."""

from __future__ import annotations

from wire import BadInput, Card
from zoo.families.cnn import Cnn
from zoo.families.encoder import Encoder
from zoo.families.family import Architecture, Family
from zoo.families.fitted import Fitted
from zoo.families.gbdt import Gbdt
from zoo.families.knn import Knn
from zoo.families.logistic import Logistic, Softmax
from zoo.families.minilm import Minilm
from zoo.families.mlp import Mlp
from zoo.families.pretrained import Torchvision
from zoo.families.resnet import Resnet
from zoo.families.svm import Svm
from zoo.families.text import Tfidf
from zoo.families.transformer import Transformer
from zoo.families.trees import Forest, Tree

NETWORKS: dict[str, type[Architecture]] = {
    "softmax": Softmax,
    "logistic": Logistic,
    "mlp": Mlp,
    "cnn": Cnn,
    "resnet": Resnet,
    "torchvision": Torchvision,
}
"""Families trained by gradient descent."""

FITTED: dict[str, type[Fitted]] = {"svm": Svm, "tree": Tree, "forest": Forest, "gbdt": Gbdt, "knn": Knn}
"""Families fitted without gradients."""

FAMILIES: dict[str, type[Family]] = {
    **NETWORKS,
    **FITTED,
    "tfidf": Tfidf,
    "transformer": Transformer,
    "encoder": Encoder,
    "minilm": Minilm,
}


def name_of(family: Family) -> str:
    """Returns the name of a family in :data:`FAMILIES`."""
    return next(name for name, cls in FAMILIES.items() if type(family) is cls)


def check_rows(family: Family, card: Card) -> None:
    """Rejects rows that no member of a family can take.

    Raises:
        BadInput: The rows are texts and the family takes numbers or the reverse, or the rows have missing or
            categorical features and the family cannot take these.
    """
    name, texts = name_of(family), card.dtype == "BYTES"
    if family.texts != texts or texts == bool(card.input_shape):
        wanted = "texts" if family.texts else "rows of numbers"
        raise BadInput(f"{name} takes {wanted}, not {card.dtype} rows of shape {card.input_shape}")
    plain = not card.missing and not any(feature.categories for feature in card.features)
    if not plain and not family.tabular:
        able = ", ".join(name for name, cls in FAMILIES.items() if cls.tabular)
        raise BadInput(f"{name} cannot take missing or categorical features; these families can: {able}")


__all__ = ["FAMILIES", "FITTED", "NETWORKS", "Architecture", "Family", "Fitted", "check_rows", "name_of"]
