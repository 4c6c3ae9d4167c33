"""Location-30: which of 446 regions and types of place each person visited, and which of 30 groups they belong to.

Source: Shokri, Stronati, Song, Shmatikov, "Membership Inference Attacks Against Machine Learning Models", IEEE S&P
2017, section VI-A; made from check-ins by Yang et al. (2015), https://github.com/privacytrustlab/datasets.
"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np

from wire import BadInput
from wire.files import read_stream
from zoo.data.dataset import Dataset
from zoo.data.files import IMAGES, TABLE, content, located
from zoo.data.pool import Pool

FEATURES, CLASSES = 446, 30
_MEMBER = "bangkok"


def load_location30(name: str, folder: Path | None, cache: Path) -> Dataset:
    """Loads Location-30 from ``dataset_location.tgz``, or from the file ``bangkok`` that this archive contains.

    Raises:
        Missing: The data set was not found.
        BadInput: The file is invalid.
    """
    path = located(name, folder, ("dataset_location.tgz", _MEMBER), "put privacytrustlab's dataset_location.tgz")
    packed = _unpacked(path) if path.suffix == ".tgz" else content(path, TABLE)
    try:
        rows = np.loadtxt(io.StringIO(packed.decode().replace('"', "")), np.float32, delimiter=",", ndmin=2)
    except ValueError as error:
        raise BadInput(f"{path}: {error}") from None
    x, classes = np.ascontiguousarray(rows[:, 1:]), rows[:, 0]
    valid = np.isin(x, (0, 1)).all() and np.isin(classes, np.arange(CLASSES) + 1).all()
    if x.shape[1] != FEATURES or not valid:
        raise BadInput(f"{path}: expected a class from 1 to {CLASSES} and {FEATURES} zeros and ones in each line")
    names = tuple(str(number + 1) for number in range(CLASSES))
    return Dataset(name, Pool(x, classes.astype(np.int64) - 1, names), str(path.resolve()))


def _unpacked(path: Path) -> bytes:
    try:
        with tarfile.open(fileobj=io.BytesIO(content(path, IMAGES)), mode="r:") as archive:
            member = archive.extractfile(_MEMBER)
            if member is not None:
                return read_stream(member, path, TABLE)
    except BadInput:
        raise
    except (OSError, EOFError, KeyError, ValueError, OverflowError, RecursionError, tarfile.TarError) as error:
        raise BadInput(f"{path}: {error}") from None
    raise BadInput(f"{path}: {_MEMBER} in this archive is not a file")
