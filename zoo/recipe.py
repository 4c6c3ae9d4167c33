"""Recipes of models, and models kept under the hash of their recipe."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from wire import BadInput
from zoo import folder
from zoo.cache import once
from zoo.data.pool import Pool
from zoo.families import LEARNERS, AnyFamily, Learner, name_of
from zoo.families.cnn import Cnn
from zoo.families.knn import Knn
from zoo.families.logistic import Logistic, Softmax
from zoo.families.mlp import Mlp
from zoo.families.resnet import Resnet
from zoo.families.svm import Svm
from zoo.families.text import Text, Tfidf
from zoo.families.trees import Forest, Gbdt, Tree
from zoo.network import Network
from zoo.training import Training

VERSION = 2  # to be raised when the same recipe comes to mean another model


@dataclass(frozen=True)
class Recipe:
    """All that a model depends on beside its rows.

    Attributes:
        family: The model family with its fields.
        training: How it is trained, if it is a network.
        seed: Seeds the first weights and the order of the rows.
    """

    family: AnyFamily
    training: Training = field(default_factory=Training)
    seed: int = 0

    def key(self, pool: Pool) -> str:
        """Returns the hash of the recipe and its rows, in hexadecimal."""
        parts = {"version": VERSION, "family": name_of(self.family), "rows": pool.fingerprint}
        text = json.dumps({**parts, **dataclasses.asdict(self)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def train(self, pool: Pool, *, device: str | None = None, label: str = "") -> Network | Text:
        """Trains a model on a pool with labels and names of its classes.

        Raises:
            BadInput: The rows have no labels, or are none that the family takes.
        """
        if pool.y is None:
            raise BadInput("these rows have no labels to train on")
        _check_rows(self.family, pool)
        if isinstance(self.family, Tfidf):
            return Text(self.family, pool.class_names, self.family.learn(pool, self.seed))
        if isinstance(self.family, Learner):
            learnt = self.family.learn(pool, self.seed)
            module = self.family.module(learnt, pool.input_shape, len(pool.class_names))
            network = Network(module, self.family, pool.input_shape, pool.class_names, device=device)
        else:
            network = Network.new(self.family, pool.input_shape, pool.class_names, seed=self.seed, device=device)
            network.fit(pool.x, pool.y, self.training, seed=self.seed, label=label)
        network.low, network.high = pool.bounds
        network.missing, network.features = pool.missing, pool.features
        return network


def _check_rows(family: AnyFamily, pool: Pool) -> None:
    name = name_of(family)
    if isinstance(family, Tfidf) != (pool.dtype == "BYTES"):
        raise BadInput(f"{name} takes {'texts' if pool.dtype == 'FP32' else 'numbers'}, and these rows are none")
    plain = not pool.missing and not any(feature.categories for feature in pool.features)
    if not plain and not (isinstance(family, Learner) and family.tabular):
        able = ", ".join(name for name, cls in LEARNERS.items() if cls.tabular)
        raise BadInput(f"{name} takes no rows with missing features or categories; these do: {able}")


@dataclass(frozen=True)
class Ready:
    """A recipe together with its data.

    Attributes:
        data: Name of the data set.
        family: The model family with its fields.
        training: How it is trained, if it is a network.
    """

    data: str
    family: AnyFamily
    training: Training = field(default_factory=Training)


LONG = Training(epochs=200, batch=32, lr=0.2)  # for sets of a few hundred rows
WATCHED = Training(checkpoints=11)  # for what the detector HODA may watch

READY: dict[str, Ready] = {
    "iris-softmax": Ready("iris", Softmax(), LONG),
    "breast-cancer-logistic": Ready("breast_cancer", Logistic(), LONG),
    "wine-tree": Ready("wine", Tree()),
    "digits-svm-linear": Ready("digits", Svm("linear")),
    "digits-svm-rbf": Ready("digits", Svm("rbf")),
    "digits-forest": Ready("digits", Forest()),
    "digits-knn": Ready("digits", Knn()),
    "fashion-mnist-cnn": Ready("fashion_mnist", Cnn(), WATCHED),
    "cifar10-resnet": Ready("cifar10", Resnet(), WATCHED),
    "location30-mlp": Ready("location30", Mlp((128,)), Training(epochs=30, lr=1e-3)),
    "adult-tree": Ready("adult", Tree(depth=8)),
    "adult-gbdt": Ready("adult", Gbdt()),
    "rt-polarity-tfidf": Ready("rt_polarity", Tfidf()),
}
"""Victims that are ready to be trained by name."""


def trained(
    recipe: Recipe, pool: Pool, cache: Path, *, device: str | None = None, label: str = ""
) -> Network | Text:
    """Returns the model of a recipe, which is trained only the first time.

    Args:
        recipe: The recipe.
        pool: The rows with their labels.
        cache: Folder of everything that is kept.
        device: Where to train and to use it; None chooses CUDA where there is one.
        label: What the progress bar calls it.

    Raises:
        BadInput: The rows have no labels, or are none that the family takes, or what was kept is broken.
    """

    def make(path: Path) -> None:
        model = recipe.train(pool, device=device, label=label)
        folder.save(model, path, seed=recipe.seed, rows=len(pool))

    return folder.load(once(cache / "models" / recipe.key(pool)[:32], make), device)
