"""MNIST and Fashion-MNIST, in the IDX format of their publication.

Sources: LeCun et al., "Gradient-Based Learning Applied to Document Recognition", Proc. IEEE 1998; Xiao et al.,
"Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms", arXiv:1708.07747.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from wire import BadInput
from zoo.cache import once
from zoo.data.dataset import Dataset
from zoo.data.download import download
from zoo.data.files import IMAGES, content
from zoo.data.pool import Pool, bytes_to_rows

DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # from the package dataset-fashion-mnist

_CLASSES = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}  # torchvision's
_FOLDERS = {
    "mnist": ("MNIST/raw", "mnist", "."),
    "fashion_mnist": ("FashionMNIST/raw", "fashion_mnist", "fashion-mnist", "."),
}
_FILES = tuple(f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
_TEST_LABELS = {  # SHA-256 of t10k-labels-idx1-ubyte: both data sets use the same file names
    "mnist": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    "fashion_mnist": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
_ADVICE = {
    "mnist": "put its four idx files into the data folder (--data or MLAAS_DATA)",
    "fashion_mnist": "install Debian's package dataset-fashion-mnist, or put its four idx files into the "
    "data folder (--data or MLAAS_DATA)",
}


def load_idx(name: str, folder: Path | None, cache: Path) -> Dataset:
    """Loads ``mnist`` or ``fashion_mnist`` from the data folder or Debian's package, or downloads it.

    The files, gzipped or not, may be in the data folder itself, in a subfolder with the data set's name, or in
    torchvision's layout (``FashionMNIST/raw``).

    Raises:
        Missing: The data set was not found.
        BadInput: Some of the files are missing or invalid.
    """
    places = [folder / sub for sub in _FOLDERS[name]] if folder else []
    places += [DEBIAN] if name == "fashion_mnist" else []
    for place in places:
        files = _found(place)
        if files and not _is_another(files, name):
            return _read(name, _unpacked(name, files, cache), str(place.resolve()))
    return _read(
        name, download(name, cache, lambda root: _dataset(name, root, fetch=True), _ADVICE[name]), "download"
    )


def _found(place: Path) -> dict[str, Path]:
    """Returns the four files of a folder by name, or an empty dict if it has none of them."""
    candidates = {name: (place / name, place / f"{name}.gz") for name in _FILES}
    files = {name: path for name, pair in candidates.items() for path in reversed(pair) if path.is_file()}
    if files and len(files) < len(_FILES):
        lacking = next(name for name in _FILES if name not in files)
        raise BadInput(f"{place} has {next(iter(files.values())).name}, but neither {lacking} nor {lacking}.gz")
    return files


def _is_another(files: dict[str, Path], name: str) -> bool:
    """Returns whether the files are known to belong to another data set."""
    found = hashlib.sha256(content(files["t10k-labels-idx1-ubyte"], IMAGES)).hexdigest()
    return any(found == known for other, known in _TEST_LABELS.items() if other != name)


def _unpacked(name: str, files: dict[str, Path], cache: Path) -> Path:
    """Returns a folder with these files in torchvision's layout."""
    stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files.values()]
    key = hashlib.sha256(repr(stats).encode()).hexdigest()[:16]

    def unpack(root: Path) -> None:
        raw = root / _CLASSES[name] / "raw"
        raw.mkdir(parents=True)
        for file, path in files.items():
            (raw / file).write_bytes(content(path, IMAGES))

    return once(cache / "datasets" / f"{name}-{key}", unpack)


def _dataset(name: str, root: Path, train: bool = True, fetch: bool = False) -> Any:
    from zoo.vision import datasets  # deferred: importing torchvision takes a second

    return getattr(datasets, _CLASSES[name])(root, train=train, download=fetch)


def _read(name: str, root: Path, source: str) -> Dataset:
    try:
        parts = [_dataset(name, root, train) for train in (True, False)]
        images = np.concatenate([part.data.numpy() for part in parts])[:, None]
        labels = np.concatenate([part.targets.numpy() for part in parts])
        class_names = tuple(title.partition(" - ")[0] for title in parts[0].classes)
        return Dataset(name, Pool(bytes_to_rows(images), labels, class_names), source)
    except (ValueError, TypeError, AssertionError, RuntimeError, IndexError, KeyError) as error:
        raise BadInput(f"{source}: invalid idx files ({error})") from None
