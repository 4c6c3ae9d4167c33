"""rt-polarity: sentences from film reviews, positive or negative.

Source: Pang and Lee, "Seeing Stars: Exploiting Class Relationships for Sentiment Categorization with Respect to
Rating Scales", ACL 2005; https://www.cs.cornell.edu/people/pabo/movie-review-data/.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from zoo.data.dataset import Dataset
from zoo.data.files import TABLE, content, located
from zoo.data.pool import Pool, texts

SIDES = {"negative": "rt-polarity.neg", "positive": "rt-polarity.pos"}


def load_polarity(name: str, folder: Path | None, cache: Path) -> Dataset:
    """Loads the sentences from ``rt-polarity.neg`` and ``rt-polarity.pos``, one per line, gzipped or not.

    Raises:
        Missing: One of the files was not found.
        BadInput: A file cannot be read, or is too large.
    """
    paths = [
        located(
            name,
            folder,
            (file, f"rt-polaritydata/{file}"),
            f"put {file} of Pang and Lee's rt-polaritydata.tar.gz",
        )
        for file in SIDES.values()
    ]
    sides = [[line.strip() for line in _text(path).splitlines() if line.strip()] for path in paths]
    y = np.repeat(np.arange(len(sides)), [len(side) for side in sides])
    pool = Pool(texts([line for side in sides for line in side]), y, tuple(SIDES))
    return Dataset(name, pool, str(paths[0].parent.resolve()))


def _text(path: Path) -> str:
    found = content(path, TABLE)
    try:
        return found.decode()
    except UnicodeDecodeError:
        return found.decode("latin-1")  # the encoding of the published files
