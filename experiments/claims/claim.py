"""A published claim, and the findings of a test of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any, ClassVar, Protocol

from experiments.lab import Lab
from zoo.exact_interval import exact_interval


@dataclass(frozen=True)
class Finding:
    """One number beside the published one.

    Attributes:
        what: The quantity, in a few words.
        setting: Data, victim and hyper-parameters that the number depends on.
        published: The source's figure; "none" if it reports none.
        measured: The number; None where it was not reached ("no alarm").
        low: Lower end of its spread; None as above.
        high: Upper end of its spread; None as above.
        spread: The kind of spread.
        unit: The number's unit; ``share`` is printed in per cent.
        seeds: The seeds behind it.
        baseline: The figure of a trivial method.
        values: The number of each seed, where the spread is over seeds.
    """

    what: str
    setting: str
    published: str
    measured: float | None
    low: float | None
    high: float | None
    spread: str
    unit: str
    seeds: tuple[int, ...]
    baseline: str
    values: tuple[float | None, ...] = ()


def over_seeds(
    what: str,
    setting: str,
    published: str,
    values: Mapping[int, float | None],
    *,
    baseline: str,
    unit: str = "rows",
) -> Finding:
    """Returns the median over seeds with the least and the greatest; seeds without a number count as the greatest.

    Args:
        what: As in :class:`Finding`.
        setting: Likewise.
        published: Likewise.
        values: The number of each seed; None where it was not reached.
        baseline: As in :class:`Finding`.
        unit: Likewise.
    """
    numbers = [math.inf if value is None else value for value in values.values()]
    middle, low, high = (_reached(number) for number in (median(numbers), min(numbers), max(numbers)))
    of = tuple(values.values())
    return Finding(
        what, setting, published, middle, low, high, "least and greatest", unit, tuple(values), baseline, of
    )


def share(
    what: str, setting: str, published: str, hits: int, trials: int, *, seeds: Iterable[int], baseline: str
) -> Finding:
    """Returns ``hits`` of ``trials`` with the exact 95 % interval, for trials that are independent draws."""
    rate, low, high = exact_interval(hits, trials)
    spread = f"exact 95 % interval, {hits} of {trials}"
    return Finding(what, setting, published, rate, low, high, spread, "share", tuple(seeds), baseline)


def _reached(number: float) -> float | None:
    return None if math.isinf(number) else number


@dataclass(frozen=True)
class Findings:
    """The findings of a test of a claim.

    Attributes:
        rows: The numbers, in the order in which they are printed.
        streams: The query streams by name: their source, their length, how they were drawn.
        victims: The victims by name: family, data, accuracy.
        notes: Differences from the published setting, and whatever else a reader must know.
        more: Further figures for the file.
    """

    rows: tuple[Finding, ...]
    streams: Mapping[str, Any]
    victims: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)


class Claim(Protocol):
    """A published claim; a frozen dataclass whose fields are the sizes of its protocol.

    Attributes:
        ID: Its name on the command line.
        SAYS: The claim, in a sentence.
        SOURCE: The publication.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]
    ID: ClassVar[str]
    SAYS: ClassVar[str]
    SOURCE: ClassVar[str]

    def run(self, lab: Lab) -> Findings:
        """Plays the protocol.

        Raises:
            BadInput: Its data is missing.
            Failed: A server or a client failed.
        """
        ...
