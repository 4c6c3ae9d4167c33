"""A data set as one pool, before it is divided into roles."""

from __future__ import annotations

from dataclasses import dataclass

from wire import BadInput
from zoo.data.pool import Pool


class Missing(BadInput):
    """A data set was not found."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set with its training and test rows merged.

    Attributes:
        name: Its name.
        pool: All rows with their labels.
        source: Where it was found.
    """

    name: str
    pool: Pool
    source: str
