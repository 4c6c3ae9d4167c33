"""DAWN's mapping function M_V, on which the decision to mark an input is based.

Source: Szyller et al., ACM MM 2021, "Mapping function". With the exact mapping, each distinct row is decided
separately, after rounding to a grid (:mod:`defenses.answers.grid`), near-duplicates on other points included.
With the median mapping, the decision depends on bits that say which units of the victim's penultimate layer are
above their medians; rows with the same bits form a cell and are marked together.

The bits are computed beside the victim on the CPU, so they depend on the row alone, whichever engine answers.
Other processors or library versions may round differently: a row with a unit very close to its median may then
fall into another cell. So all workers should run on the same hardware. A judge recomputes the bits, and counts
such a mark as failed. The ledger keeps the medians of the first start, which are used from then on.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import numpy as np

from defenses.answers.grid import Grid
from defenses.companions import Forward
from defenses.site import Site
from defenses.watermarks.ledger import encode_rows
from wire import Array, BadInput
from zoo.data.pool import Pool

log = logging.getLogger(__name__)

MOST_ROWS = 10_000  # maximum number of rows of a pool to compute medians from
LEAST_UNITS = 64  # minimum number of units that must distinguish these rows
MOST_SPREAD = 0.25  # maximum spread of the realised rate, relative to the configured one, without a warning

Mapping = Callable[[Array], Awaitable[tuple[str, Sequence[bytes]]]]
"""Maps rows ``(n, ...)`` to the form of the mapped inputs and the bytes of each."""


def exact(grid: Grid | None) -> Mapping:
    """Returns the mapping of each row to its nearest point of a grid, or to itself."""

    async def mapping(x: Array) -> tuple[str, Sequence[bytes]]:
        return points(x, grid)

    return mapping


def points(x: Array, grid: Grid | None) -> tuple[str, Sequence[bytes]]:
    """Encodes the nearest points of rows ``(n, ...)``. No row has this form."""
    if grid is None or x.dtype.kind in "OU":
        return encode_rows(x)
    nearest, axes = grid.points(x), "x".join(map(str, x.shape[1:]))
    return f"point {axes}", [point.tobytes() for point in nearest]


def median(activation_bits: Forward) -> Mapping:
    """Returns the mapping to cells, given the forward pass that compares activations with their medians."""

    async def mapping(x: Array) -> tuple[str, Sequence[bytes]]:
        compared = await activation_bits(x)
        return cells(compared[:, 1] > compared[:, 0])

    return mapping


def cells(above: Array) -> tuple[str, list[bytes]]:
    """Encodes which units are above their medians, ``(n, units)`` bool.

    No row has this form, so both mappings can use the same key.
    """
    bits = np.packbits(above, axis=1)
    return f"median {above.shape[1]}", bits.view(f"V{bits.shape[1]}").ravel().tolist()


async def medians(pool: Path | None, rate: float, site: Site) -> Array:
    """Computes the medians of the penultimate layer's activations on a pool of rows, ``(units,)``.

    Raises:
        BadInput: The pool does not exist, or too few units distinguish its rows.
    """
    if pool is None:
        raise BadInput(
            'dawn: mapping = "median" needs a pool of rows at the first start, such as the victim\'s training rows'
        )
    rows = (await asyncio.to_thread(Pool.load, pool)).x[:MOST_ROWS]
    try:
        activations = await site.companions.activations(rows)
    except BadInput as fault:
        raise BadInput(f"dawn: {pool}: {fault}") from None
    found: Array = np.median(activations, axis=0)
    above = activations > found
    units = int((above.any(axis=0) & ~above.all(axis=0)).sum())
    if units < LEAST_UNITS:
        raise BadInput(
            f"dawn: only {units} units of the penultimate layer distinguish the rows of {pool}; "
            f"expected at least {LEAST_UNITS}"
        )
    spread = rate_spread(cells(above)[1], rate)
    if spread > MOST_SPREAD:
        log.warning(
            "model %s: many rows of the pool share cells, so the realised rate is %g give or take %.0f %%",
            *(site.model, rate, 100 * spread),
        )
    return found


def rate_spread(points: Sequence[bytes], rate: float) -> float:
    """Returns the relative standard deviation of the realised rate over keys.

    A key marks either all rows of a cell or none, so the realised rate varies with the key if there are few cells.
    For a stream like these mapped rows, the deviation follows from the share of pairs in the same cell.
    """
    counts = np.unique(np.array(points), return_counts=True)[1]
    pairs = float((counts * (counts - 1)).sum()) / (len(points) * (len(points) - 1))
    return math.sqrt(pairs * (1 - rate) / rate)
