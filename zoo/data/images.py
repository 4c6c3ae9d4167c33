"""Data sets from folders of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from wire import Array, BadInput
from zoo.data.dataset import Dataset
from zoo.data.pool import Pool, bytes_to_rows


def load_images(name: str, folder: Path) -> Dataset:
    """Loads ``<class>/*`` from a folder, or ``train/<class>/*`` and ``test/<class>/*`` merged.

    All images must have the same size; if some are in colour, grey ones are converted to three channels.

    Raises:
        BadInput: There are no classes, a class is empty, an image is invalid, or images differ in size.
    """
    from zoo.vision import datasets  # deferred: importing torchvision takes a second

    parts = [folder / part for part in ("train", "test") if (folder / part).is_dir()] or [folder]
    try:
        found = [datasets.ImageFolder(str(part)) for part in parts]
    except OSError as error:
        raise BadInput(f"{folder}: not a folder of images, <class>/* or train/<class>/*: {error}") from None
    class_names = tuple(sorted({title for part in found for title in part.classes}))
    samples = [(Path(path), part.classes[index]) for part in found for path, index in part.samples]
    images = [_read(path) for path, _ in tqdm(samples, desc=name, unit="image", leave=False, dynamic_ncols=True)]
    for (path, _), image in zip(samples, images, strict=True):
        if image.shape[1:] != images[0].shape[1:]:
            raise BadInput(
                f"{path} is {image.shape[2]} wide and {image.shape[1]} high, but {samples[0][0]} is "
                f"{images[0].shape[2]} by {images[0].shape[1]}; all images must have the same size"
            )
    channels = max(len(image) for image in images)
    x = np.stack([np.broadcast_to(image, (channels, *image.shape[1:])) for image in images])
    y = np.array([class_names.index(title) for _, title in samples], np.int64)
    return Dataset(name, Pool(bytes_to_rows(x), y, class_names), str(folder.resolve()))


def _read(path: Path) -> Array:
    """Returns an image's bytes, ``(1 or 3, h, w)`` uint8."""
    try:
        with Image.open(path) as image:
            array = np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise BadInput(f"{path}: not an image: {error}") from None
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
