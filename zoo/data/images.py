"""Data sets from folders of images."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from wire import Array, BadInput
from wire.files import most_unpacked
from zoo.data.dataset import Dataset
from zoo.data.pool import Pool, bytes_to_rows

_FAULTS = (
    *(OSError, ValueError, TypeError, LookupError, SyntaxError, EOFError, OverflowError, struct.error),
    *(zlib.error, Image.DecompressionBombError),
)
_FORMATS = ("PNG", "JPEG", "PPM", "BMP", "TIFF", "WEBP", "GIF")


def load_images(name: str, folder: Path) -> Dataset:
    """Loads ``<class>/*`` from a folder, or ``train/<class>/*`` and ``test/<class>/*`` merged.

    All images must have the same size; if some are in colour, grey ones are converted to three channels.

    Raises:
        BadInput: There are no classes, a class is empty, an image is invalid, images differ in size, or all of
            them take more memory than their files allow for.
    """
    from zoo.vision import datasets  # deferred: importing torchvision takes a second

    parts = [folder / part for part in ("train", "test") if (folder / part).is_dir()] or [folder]
    try:
        found = [datasets.ImageFolder(str(part)) for part in parts]
    except OSError as error:
        raise BadInput(f"{folder}: not a folder of images, <class>/* or train/<class>/*: {error}") from None
    class_names = tuple(sorted({title for part in found for title in part.classes}))
    samples = [(Path(path), part.classes[index]) for part in found for path, index in part.samples]
    images: list[Array] = []
    left = most_unpacked(sum(path.stat().st_size for path, _ in samples))
    for path, _ in tqdm(samples, desc=name, unit="image", leave=False, dynamic_ncols=True):
        images.append(_read(path, left))
        left -= images[-1].nbytes
        high, wide = images[-1].shape[1:]
        if (high, wide) != images[0].shape[1:]:
            raise BadInput(
                f"{path} is {wide} wide and {high} high, but {samples[0][0]} is "
                f"{images[0].shape[2]} by {images[0].shape[1]}; all images must have the same size"
            )
    channels = max(len(image) for image in images)
    x = np.stack([np.broadcast_to(image, (channels, *image.shape[1:])) for image in images])
    y = np.array([class_names.index(title) for _, title in samples], np.int64)
    return Dataset(name, Pool(bytes_to_rows(x), y, class_names), str(folder.resolve()))


def _read(path: Path, most: int) -> Array:
    """Returns an image's bytes, ``(1 or 3, h, w)`` uint8, of which there are at most ``most``."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            mode = "L" if image.mode in ("1", "L") else "RGB"
            size = image.width * image.height * len(mode)
            if size > most:
                raise BadInput(
                    f"{path} is {image.width} by {image.height}: with the images before it, more than their files "
                    "allow for"
                )
            array = np.asarray(image.convert(mode))
    except BadInput:
        raise
    except _FAULTS as error:
        raise BadInput(f"{path}: not an image: {error}") from None
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
