"""DAWN's mapping function M_V: what decides whether an input is marked.

Source: Szyller et al., ACM MM 2021, "Mapping function". With the exact mapping every row decides for itself, so a
near-duplicate is another input. With the median mapping the bits decide that say which units of the victim's
penultimate layer are above their medians; rows with the same bits form a cell and are marked together.

The layer is computed beside the victim, on a CPU, so a row's bits depend on that row alone, whichever engine
answers. Other processors or library versions may round differently: a row with a unit within rounding of its
median may then fall into another cell. So run all workers on the same hardware. A judge, who computes the bits
again, counts such a mark as failed. The ledger keeps the medians of the first start, which are used ever after.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import numpy as np

from defenses.companions import Forward
from defenses.site import Site
from defenses.watermarks.ledger import encode_rows
from wire import Array, BadInput
from zoo.data.pool import Pool

log = logging.getLogger(__name__)

MOST_ROWS = 10_000  # of a pool, for medians
LEAST_UNITS = 64  # that must tell these rows apart
MOST_SPREAD = 0.25  # of the realised rate, as a share of the wanted one, without a warning

Mapping = Callable[[Array], Awaitable[tuple[str, Sequence[bytes]]]]
"""From rows ``(n, ...)`` to the form of the mapped inputs and the bytes of each."""


async def exact(x: Array) -> tuple[str, Sequence[bytes]]:
    """Maps each row to itself."""
    return encode_rows(x)


def median(activation_bits: Forward) -> Mapping:
    """Returns the mapping to cells, given the pass that compares activations with their medians."""

    async def mapping(x: Array) -> tuple[str, Sequence[bytes]]:
        compared = await activation_bits(x)
        return cells(compared[:, 1] > compared[:, 0])

    return mapping


def cells(above: Array) -> tuple[str, list[bytes]]:
    """Encodes which units are above their medians, ``(n, units)`` bool.

    No row has this form, so one key serves both mappings.
    """
    bits = np.packbits(above, axis=1)
    return f"median {above.shape[1]}", bits.view(f"V{bits.shape[1]}").ravel().tolist()


async def medians(pool: Path | None, rate: float, site: Site) -> Array:
    """Computes the medians of the penultimate layer's activations on a pool of rows, ``(units,)``.

    Raises:
        BadInput: There is no such pool, or its rows have too few cells.
    """
    if pool is None:
        raise BadInput('dawn: mapping = "median" needs a pool of rows at the first start, such as the victim\'s')
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
            f"dawn: {units} units of the penultimate layer tell the rows of {pool} apart; "
            f"expected at least {LEAST_UNITS}"
        )
    spread = rate_spread(cells(above)[1], rate)
    if spread > MOST_SPREAD:
        log.warning(
            "model %s: so many rows of the pool share cells that the realised rate is %g give or take %.0f %%",
            *(site.model, rate, 100 * spread),
        )
    return found


def rate_spread(points: Sequence[bytes], rate: float) -> float:
    """Returns how far the realised rate lies from the wanted one for lack of cells, as a share of it.

    A key marks a cell with all of its rows, or not. This is the standard deviation over keys for a stream like
    these mapped rows; it follows from the share of pairs that fall into the same cell.
    """
    counts = np.unique(np.array(points), return_counts=True)[1]
    pairs = float((counts * (counts - 1)).sum()) / (len(points) * (len(points) - 1))
    return math.sqrt(pairs * (1 - rate) / rate)
