"""The King James Version, verse by verse, or any texts of the user's, line by line."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wire import BadInput
from zoo.data.dataset import Dataset
from zoo.data.files import IMAGES, content, located
from zoo.data.pool import Pool, texts

HINT = (
    "apt-get install sword-text-kjv libsword-utils, mkdir kjv and mod2imp engKJV2006eb -s > kjv/kjv.txt, "
    "or put texts of your own as kjv/*.txt"
)
TABLES = ("kjv_web.tsv", "bible_en_es.tsv")  # whose first column is the version; the others are translations
MOST_FILES = 1000


def load_kjv(name: str, folder: Path | None, cache: Path) -> Dataset:
    """Loads the lines of ``kjv/*.txt``, or the first column of a table of verses; a text's label is its file.

    Lines that ``mod2imp`` writes about verses, which begin with ``$$$``, are left out, as are empty ones and the
    signs of paragraphs.

    Raises:
        Missing: There is neither.
        BadInput: A file cannot be read, is no UTF-8, or is too large.
    """
    own = sorted((folder / name).glob("*.txt*")) if folder else []
    if len(own) > MOST_FILES:
        raise BadInput(f"{folder}: {len(own)} files of text; expected at most {MOST_FILES}")
    paths = own or [located(name, folder, (*TABLES, *(f"bible/{table}" for table in TABLES)), HINT)]
    parts = [_lines(path) for path in paths]
    y = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    pool = Pool(texts([line for part in parts for line in part]), y, tuple(path.name for path in paths))
    return Dataset(name, pool, str(paths[0].parent.resolve()))


def _lines(path: Path) -> list[str]:
    try:
        lines = content(path, IMAGES).decode().splitlines()
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not a text in UTF-8: {error}") from None
    if ".tsv" in path.suffixes:
        lines = [line.partition("\t")[0] for line in lines]
    texts = [" ".join(line.replace("¶", " ").split()) for line in lines if not line.startswith("$$$")]
    return [text for text in texts if text]
