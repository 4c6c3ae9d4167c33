"""A small model of every family of classifiers, and rows for it; encoders are in ``zoo/test_encoder.py``."""

import numpy as np

from wire import Feature
from zoo.data.pool import Pool, texts
from zoo.families import FAMILIES
from zoo.families.cnn import Cnn
from zoo.families.gbdt import Gbdt
from zoo.families.knn import Knn
from zoo.families.logistic import Logistic, Softmax
from zoo.families.mlp import Mlp
from zoo.families.pretrained import Torchvision
from zoo.families.resnet import Resnet
from zoo.families.svm import Svm
from zoo.families.text import Tfidf
from zoo.families.transformer import Transformer
from zoo.families.trees import Forest, Tree
from zoo.recipe import Recipe
from zoo.training import Training

NAMES = ("a", "b", "c")
FEATURES = (Feature("age"), Feature("work", ("none", "state", "own", "other")), Feature("gain"))


def images(n=60, seed=0, shape=(1, 8, 8), names=NAMES):
    """Rows whose mean tells their class."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, len(names), n)
    x = (rng.random((n, *shape)) + y.reshape(-1, *(1 for _ in shape))) / len(names)
    return Pool(x.astype(np.float32), y, names)


def table(n=300, seed=0):
    """Rows of two numbers and a category, some missing, whose class hangs on both."""
    rng = np.random.default_rng(seed)
    x = np.stack([rng.uniform(17, 90, n), rng.integers(0, 4, n), rng.uniform(0, 1e5, n)], axis=1).astype(
        np.float32
    )
    y = ((x[:, 0] > 50) ^ np.isin(x[:, 1], (0, 3))).astype(np.int64)
    x[rng.random(x.shape) < 0.1] = np.nan
    return Pool(x, y, ("low", "high"), missing=True, features=FEATURES)


def sentences(n=60, seed=0):
    """Texts whose class is told by some of their words."""
    rng = np.random.default_rng(seed)
    words = (("dull", "weak", "never"), ("bright", "moving", "always"), ("façade", "naïve", "blasé"))
    y = rng.integers(0, 3, n)
    lines = [" ".join([*rng.choice(words[label], 3), "the", "film"]) for label in y]
    return Pool(texts(lines), y, NAMES)


TWO = images(names=("a", "b"))
KINDS = {
    "softmax": (Softmax(), images()),
    "logistic": (Logistic(), TWO),
    "mlp": (Mlp((9, 7)), images()),
    "cnn": (Cnn(width=3, hidden=5), images()),
    "resnet": (Resnet(n=1, width=2), images()),
    "torchvision": (Torchvision("shufflenet_v2_x0_5"), images(20, shape=(3, 32, 32))),
    "svm": (Svm(), images()),
    "svm-linear": (Svm("linear"), images()),
    "svm-two": (Svm(), TWO),
    "svm-linear-two": (Svm("linear"), TWO),
    "tree": (Tree(), table()),
    "tree-images": (Tree(depth=3), images()),
    "forest": (Forest(trees=7), table()),
    "forest-images": (Forest(trees=7), images()),
    "gbdt": (Gbdt(rounds=9), table()),
    "gbdt-images": (Gbdt(rounds=3), images()),
    "knn": (Knn(3), images()),
    "tfidf": (Tfidf(), sentences()),
    "transformer": (Transformer(300, 16, 1, 2, 8), sentences()),
    "tfidf-two": (Tfidf(words=1), Pool(sentences().x, (sentences().y > 0).astype(np.int64), ("a", "b"))),
}
assert {name.partition("-")[0] for name in KINDS} == set(FAMILIES) - {"encoder", "minilm"}


def trained(kind, seed=0):
    family, pool = KINDS[kind]
    return Recipe(family, Training(epochs=1), seed).train(pool, device="cpu"), pool
