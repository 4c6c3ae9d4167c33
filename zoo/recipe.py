"""Recipes of models, and a cache of trained models by the hash of their recipe."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from wire import BadInput
from wire.fits import label_misfit, misfit
from zoo import folder
from zoo.cache import once
from zoo.data.pool import Pool
from zoo.families import Family, check_rows, name_of
from zoo.families.cnn import Cnn
from zoo.families.encoder import Encoder
from zoo.families.gbdt import Gbdt
from zoo.families.knn import Knn
from zoo.families.logistic import Logistic, Softmax
from zoo.families.minilm import Minilm
from zoo.families.mlp import Mlp
from zoo.families.resnet import Resnet
from zoo.families.svm import Svm
from zoo.families.text import Tfidf
from zoo.families.transformer import Transformer
from zoo.families.trees import Forest, Tree
from zoo.model import Model
from zoo.network import Network
from zoo.training import Training

VERSION = 2  # increase when the same recipe gives another model


@dataclass(frozen=True)
class Recipe:
    """Everything that determines a model besides its rows.

    Attributes:
        family: The model family with its fields.
        training: Training parameters, for networks.
        seed: Seed of the initial weights and the order of the rows.
    """

    family: Family
    training: Training = field(default_factory=Training)
    seed: int = 0

    def key(self, pool: Pool) -> str:
        """Returns the hash of the recipe and its rows, in hexadecimal."""
        parts = {"version": VERSION, "family": name_of(self.family), "rows": pool.fingerprint}
        text = json.dumps({**parts, **dataclasses.asdict(self)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def train(
        self, pool: Pool, *, device: str | None = None, label: str = "", start: Network | None = None
    ) -> Model:
        """Trains a model on a pool with labels and class names; or goes on with a network, of its own family.

        Raises:
            BadInput: The rows have no labels, or the family does not take them.
        """
        if pool.y is None:
            raise BadInput("the rows have no labels to train on")
        if start is not None:
            fault = misfit(pool.x, start.card()) or label_misfit(pool.y, start.card())
            if fault is not None:
                raise BadInput(f"the network to go on with does not take these rows: {fault}")
            return start.fit(pool.x, pool.y, self.training, seed=self.seed, label=label)
        check_rows(self.family, pool.card())
        return self.family.train(pool, self.training, self.seed, device=device, label=label)


@dataclass(frozen=True)
class Ready:
    """A recipe together with its data.

    Attributes:
        data: Name of the data set.
        family: The model family with its fields.
        training: Training parameters, for networks.
    """

    data: str
    family: Family
    training: Training = field(default_factory=Training)


LONG = Training(epochs=200, batch=32, lr=0.2)  # for data sets of a few hundred rows
WATCHED = Training(checkpoints=11)  # for models that the detector HODA may monitor

READY: dict[str, Ready] = {
    "iris-softmax": Ready("iris", Softmax(), LONG),
    "breast-cancer-logistic": Ready("breast_cancer", Logistic(), LONG),
    "wine-tree": Ready("wine", Tree()),
    "digits-svm-linear": Ready("digits", Svm("linear")),
    "digits-svm-rbf": Ready("digits", Svm("rbf")),
    "digits-forest": Ready("digits", Forest()),
    "digits-knn": Ready("digits", Knn()),
    "fashion-mnist-cnn": Ready("fashion_mnist", Cnn(), WATCHED),
    "fashion-mnist-encoder": Ready("fashion_mnist", Encoder()),
    "cifar10-resnet": Ready("cifar10", Resnet(), WATCHED),
    "location30-mlp": Ready("location30", Mlp((128,)), Training(epochs=30, lr=1e-3)),
    "adult-tree": Ready("adult", Tree(depth=8)),
    "adult-gbdt": Ready("adult", Gbdt()),
    "rt-polarity-tfidf": Ready("rt_polarity", Tfidf()),
    "polarity-transformer": Ready("rt_polarity", Transformer(), Training(epochs=10, batch=32, lr=2e-3)),
    "minilm-encoder": Ready("rt_polarity", Minilm()),
}
"""Built-in recipes of victims, by name."""


def trained(recipe: Recipe, pool: Pool, cache: Path, *, device: str | None = None, label: str = "") -> Model:
    """Returns a recipe's model from the cache, after training it if necessary.

    Args:
        recipe: The recipe.
        pool: The labelled rows.
        cache: The cache folder.
        device: Torch device for training and inference; None for CUDA if available.
        label: Name of the progress bar.

    Raises:
        BadInput: The rows have no labels, the family does not take them, or the cached files are invalid.
    """
    return folder.load(kept(recipe, pool, cache, device=device, label=label), device)


def kept(
    recipe: Recipe, pool: Pool, cache: Path, *, device: str | None = None, label: str = "", wait: bool = True
) -> Path:
    """Returns the folder of a recipe's model in the cache, after training it if necessary.

    See :func:`trained`; with ``wait`` false, the folder may still be in the making by another process.
    """

    def make(path: Path) -> None:
        model = recipe.train(pool, device=device, label=label)
        folder.save(model, path, seed=recipe.seed, rows=len(pool))

    return once(path_of(recipe, pool, cache), make, wait=wait)


def path_of(recipe: Recipe, pool: Pool, cache: Path) -> Path:
    """Returns where in the cache a recipe's model is, if it is there."""
    return cache / "models" / recipe.key(pool)[:32]
