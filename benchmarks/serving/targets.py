"""The targets, and the arithmetic from figures to ratios.

Every ratio is taken within a round and only then summarised, so that what slows a whole round down cancels out.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from benchmarks.measure import spread
from benchmarks.serving.cases import FOUR, OLD, OURS, RAW_ROWS, REDIS, raw


class Figure(NamedTuple):
    """One measurement of one round.

    Attributes:
        speed: Images per second.
        cpu: CPU microseconds of the server's processes per image.
        p50: Median latency in milliseconds; 0 for raw forward.
        p99: 99th percentile of the latency.
        errors: Answers with a status other than 200, and lost connections.
    """

    speed: float
    cpu: float
    p50: float = 0.0
    p99: float = 0.0
    errors: int = 0


class Unmeasured(Exception):
    """A ratio lacks one of its parts; the message names it."""


class Figures:
    """The figures of all rounds, by the measurements' names."""

    def __init__(self) -> None:
        """Starts without figures."""
        self.rounds: dict[str, list[Figure]] = {}
        self.skipped: dict[str, str] = {}
        self.memory: dict[str, int] = {}

    def add(self, name: str, figure: Figure) -> None:
        """Adds the figure of one more round."""
        self.rounds.setdefault(name, []).append(figure)

    def of(self, name: str) -> list[Figure]:
        """Returns a measurement's figures.

        Raises:
            Unmeasured: There are none, or there were errors.
        """
        if name not in self.rounds:
            raise Unmeasured(f"{name} was not measured")
        errors = sum(figure.errors for figure in self.rounds[name])
        if errors:
            raise Unmeasured(f"{name} had {errors} errors")
        return self.rounds[name]

    def best(self, names: Sequence[str], value: Callable[[Figure], float]) -> str:
        """Returns the name with the greatest median, of those that were measured.

        Raises:
            Unmeasured: None was measured.
        """
        made = [name for name in names if name in self.rounds]
        if not made:
            raise Unmeasured(f"none of {len(names)} like {names[0] if names else 'it'} was measured")
        return max(made, key=lambda name: statistics.median(map(value, self.of(name))))

    def named(self, *parts: str) -> list[str]:
        """Returns the names that contain all of some words."""
        return [name for name in self.rounds if all(f" {part} " in f" {name} " for part in parts)]


def speed(figure: Figure) -> float:
    """Returns images per second."""
    return figure.speed


def _over(above: Sequence[float], below: Sequence[float]) -> list[float]:
    return [a / b for a, b in zip(above, below, strict=True)]


@dataclass(frozen=True)
class Target:
    """A ratio to reach.

    Attributes:
        what: The comparison, in words.
        bound: The ratio's bound.
        least: Whether the bound is a lower one.
        ratios: The ratio of each round, and the name of its denominator.
    """

    what: str
    bound: float
    least: bool
    ratios: Callable[[Figures], tuple[list[float], str]]

    def judged(self, figures: Figures) -> dict[str, Any]:
        """Returns the measured ratio and whether it reaches the bound; ``reached`` is None if unmeasured."""
        row: dict[str, Any] = {"what": self.what, "bound": self.bound, "least": self.least}
        try:
            ratios, against = self.ratios(figures)
        except Unmeasured as error:
            return {**row, "ratio": None, "against": str(error), "reached": None}
        ratio = spread(ratios)
        reached = ratio.median >= self.bound if self.least else ratio.median <= self.bound
        return {**row, "ratio": ratio._asdict(), "against": against, "reached": reached}


def _speeds(above: str, below: str) -> Callable[[Figures], tuple[list[float], str]]:
    return lambda f: (_over([a.speed for a in f.of(above)], [b.speed for b in f.of(below)]), below)


def _of_raw(above: str, engine: str) -> Callable[[Figures], tuple[list[float], str]]:
    def ratios(figures: Figures) -> tuple[list[float], str]:
        fastest = figures.best([raw("cnn", engine, rows) for rows in RAW_ROWS], speed)
        return _speeds(above, fastest)(figures)

    return ratios


def _against_best(above: str, *words: str) -> Callable[[Figures], tuple[list[float], str]]:
    return lambda f: _speeds(above, f.best(f.named(*words), speed))(f)


def _latency(figures: Figures) -> tuple[list[float], str]:
    ours, rival = (
        f"{OURS.name} binary 1x1",
        figures.best(figures.named("litserve", "unbatched", "1x1"), lambda figure: -figure.p50),
    )
    return _over([a.p50 for a in figures.of(ours)], [b.p50 for b in figures.of(rival)]), rival


def _tail(figures: Figures) -> tuple[list[float], str]:
    name = f"{OURS.name} cnn-defended binary 1x32"
    return [figure.p99 / figure.p50 for figure in figures.of(name)], name


def _cpu(above: str, below: str) -> Callable[[Figures], tuple[list[float], str]]:
    return lambda f: (_over([a.cpu for a in f.of(above)], [b.cpu for b in f.of(below)]), below)


def _memory(figures: Figures) -> tuple[list[float], str]:
    for server in (OLD, OURS):
        if server.name not in figures.memory:
            raise Unmeasured(f"the memory of {server.name} was not measured")
    return [figures.memory[OLD.name] / figures.memory[OURS.name]], OURS.name


TARGETS = [
    *(
        Target(f"64-row binary c4, {what}, {engine}: part of raw forward", bound, True, _of_raw(name, engine))
        for engine, model in (("onnxruntime", ""), ("torch", " cnn-torch"))
        for what, bound, name in (
            ("keys only", 0.80, f"{OURS.name}{model} binary 64x4"),
            ("all defences", 0.70, f"{OURS.name}{model or ' cnn'}-defended binary 64x4"),
        )
    ),
    Target(
        "1-row binary c32: times LitServe's best",
        8,
        True,
        _against_best(f"{OURS.name} binary 1x32", "litserve", "1x32"),
    ),
    Target(
        "1-row binary c32: times MLServer's best",
        6,
        True,
        _against_best(f"{OURS.name} binary 1x32", "mlserver", "1x32"),
    ),
    Target(
        "1-row JSON c32, torch: times LitServe's best",
        6,
        True,
        _against_best(f"{OURS.name} cnn-torch JSON 1x32", "litserve", "torch", "JSON", "1x32"),
    ),
    Target("c1 median latency: part of unbatched LitServe's", 0.2, False, _latency),
    Target("1-row binary c32, all defences: p99 over median", 4, False, _tail),
    Target(
        "32 rows, raw: ONNX Runtime, times torch eager",
        4,
        True,
        _speeds(raw("cnn", "onnxruntime", 32), raw("cnn", "torch eager", 32)),
    ),
    Target(
        "residual network, all defences: part of the speed without",
        0.98,
        True,
        _speeds(f"{OURS.name} resnet-defended binary 16x2", f"{OURS.name} resnet binary 16x2"),
    ),
    Target(
        "residual network, all defences: CPU per image over that without",
        1.02,
        False,
        _cpu(f"{OURS.name} resnet-defended binary 16x2", f"{OURS.name} resnet binary 16x2"),
    ),
    *(
        Target(f"{what}, {size}: part of {below.name}'s speed", bound, True, _speeds(*names))
        for what, bound, above, below in (
            ("Redis, all defences", 0.8, REDIS, OURS),
            ("4 workers, all defences", 1.0, FOUR, REDIS),
            ("10 million rows of 1,000 accounts", 0.9, OLD, OURS),
        )
        for size in ("1x32", "64x4")
        for names in [[f"{server.name} cnn-defended binary {size}" for server in (above, below)]]
    ),
    Target("10 million rows of 1,000 accounts: memory over that with ten accounts", 1.1, False, _memory),
]
