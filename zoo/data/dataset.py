"""A data set as one pool, before roles are drawn from it."""

from __future__ import annotations

from dataclasses import dataclass

from wire import BadInput
from zoo.data.pool import Pool


class Missing(BadInput):
    """A data set was not found anywhere."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set, its training and test rows merged.

    Attributes:
        name: Its name.
        pool: All rows with their labels.
        source: Where it was found.
    """

    name: str
    pool: Pool
    source: str
