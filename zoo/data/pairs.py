"""The King James Version verse by verse beside another version, or any pairs of texts of the user's."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from wire import BadInput
from zoo.data.dataset import Dataset
from zoo.data.files import IMAGES, content, located
from zoo.data.pool import Pool, texts

OTHERS = {
    "kjv_en_es": ("sword-text-sparv", "spaRV1909eb", "bible_en_es.tsv"),
    "kjv_modern": ("sword-text-web", "engWEB2015eb", "kjv_web.tsv"),
}
"""Of each data set, the Debian package of the other version, its module, and a table of both."""
VERSE = re.compile(r"\$\$\$(.+ [1-9]\d*:[1-9]\d*)")
SIGNS = re.compile(r"¶|\s*<[GH]\d+>")  # of paragraphs, and numbers of Greek and Hebrew words


def load_pairs(name: str, folder: Path | None, cache: Path) -> Dataset:
    """Loads pairs of texts from ``NAME/pairs.tsv``, one on each line with a tab between, or from two files.

    The two are ``NAME/*.txt`` as ``mod2imp`` writes them; verses of the same place make a pair, and the first file
    by its name is read, the second one written. A row is a pair with its tab; all have the label 0.

    Raises:
        Missing: There is neither.
        BadInput: A file cannot be read, is no UTF-8, is too large, or has no pairs.
    """
    package, module, table = OTHERS[name]
    hint = (
        f"apt-get install sword-text-kjv {package} libsword-utils, mkdir {name}, mod2imp engKJV2006eb -s > "
        f"{name}/1.txt and mod2imp {module} -s > {name}/2.txt, or put pairs of your own as {name}/pairs.tsv"
    )
    versions = sorted((folder / name).glob("*.txt*")) if folder else []
    if len(versions) == 2:
        source = versions[0]
        first, second = map(_verses, versions)
        pairs = [(text, second[place]) for place, text in first.items() if place in second]
    else:
        source = located(name, folder, ("pairs.tsv", table, f"bible/{table}"), hint)
        pairs = [_pair(source, number, line) for number, line in enumerate(_lines(source), 1) if line.strip()]
    found = [f"{a}\t{b}" for a, b in ((_clean(a), _clean(b)) for a, b in pairs) if a and b]
    if not found:
        raise BadInput(f"{source}: no pairs of texts")
    return Dataset(name, Pool(texts(found), np.zeros(len(found), np.int64), (name,)), str(source.parent.resolve()))


def _lines(path: Path) -> list[str]:
    try:
        return content(path, IMAGES).decode().splitlines()
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not a text in UTF-8: {error}") from None


def _pair(path: Path, number: int, line: str) -> tuple[str, str]:
    first, tab, second = line.partition("\t")
    if not tab:
        raise BadInput(f"{path}, line {number}: no tab; expected a pair of texts with a tab between")
    return first, second.partition("\t")[0]


def _verses(path: Path) -> dict[str, str]:
    """Returns verses by their places; introductions and headings are left out."""
    found: dict[str, str] = {}
    place = None
    for line in _lines(path):
        if line.startswith("$$$"):
            verse = VERSE.fullmatch(line.strip())
            place = verse and verse[1]
        elif place is not None:
            found[place] = f"{found.get(place, '')} {line}"
    return found


def _clean(text: str) -> str:
    return " ".join(SIGNS.sub("", text).split())
