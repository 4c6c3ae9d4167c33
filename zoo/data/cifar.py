"""CIFAR-10.

Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from wire import BadInput
from zoo.data.dataset import Dataset
from zoo.data.download import download
from zoo.data.images import load_images
from zoo.data.pool import Pool, bytes_to_rows

_ADVICE = (
    "put cifar-10-batches-py, or images as cifar10/train/<class>/*, into the data folder (--data or MLAAS_DATA)"
)


def load_cifar10(name: str, folder: Path | None, cache: Path) -> Dataset:
    """Loads CIFAR-10 from the data folder, or downloads it.

    Looks in the data folder for ``cifar-10-batches-py``, which torchvision reads after checking the MD5 of each
    file, or for a folder ``cifar10`` of images.

    Raises:
        Missing: The data set was not found.
        BadInput: A file is invalid.
    """
    if folder and (folder / "cifar-10-batches-py").is_dir():
        return _read(name, folder, str(folder.resolve()))
    if folder and (folder / "cifar10").is_dir():
        return load_images(name, folder / "cifar10")
    return _read(name, download(name, cache, lambda root: _dataset(root, fetch=True), _ADVICE), "download")


def _dataset(root: Path, train: bool = True, fetch: bool = False) -> Any:
    from zoo.vision import datasets  # deferred: importing torchvision takes a second

    return datasets.CIFAR10(root, train=train, download=fetch)


def _read(name: str, root: Path, source: str) -> Dataset:
    try:
        parts = [_dataset(root, train) for train in (True, False)]
    except RuntimeError as error:
        raise BadInput(f"{source}: {error}") from None
    x = bytes_to_rows(np.concatenate([part.data for part in parts]).transpose(0, 3, 1, 2))
    y = np.concatenate([part.targets for part in parts]).astype(np.int64)
    return Dataset(name, Pool(np.ascontiguousarray(x), y, tuple(parts[0].classes)), source)
