"""The targets, and the arithmetic from figures to ratios.

Every ratio is taken within a round and only then summarised, so that what slows a whole round down cancels out.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from benchmarks.measure import spread
from benchmarks.serving.cases import BARE, FOUR, MOSEC, OLD, OURS, RAW_ROWS, REDIS, TWO, Forward
from benchmarks.serving.servers import Ours


class Figure(NamedTuple):
    """One measurement of one round.

    Attributes:
        speed: Images per second.
        cpu: CPU microseconds of the server's processes per image.
        p50: Median latency in milliseconds; 0 for raw forward.
        p99: 99th percentile of the latency.
        errors: Answers with a status other than 200, and lost connections.
        waiting: Requests of an open loop that were due and not answered at the end.
        late: 99th percentile of the milliseconds by which the client of an open loop missed a due time.
        client: Cores that the client took; near 1, the client is what is measured.
        others: Cores that everything else on the machine took.
        steal: Cores that the hypervisor kept from the machine.
    """

    speed: float
    cpu: float
    p50: float = 0.0
    p99: float = 0.0
    errors: int = 0
    waiting: int = 0
    late: float = 0.0
    client: float = 0.0
    others: float = 0.0
    steal: float = 0.0


_ALWAYS = ("speed", "cpu", "errors")  # the others are left out where they are 0, or where there are none


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

    def results(self) -> dict[str, Any]:
        """Returns all figures, each with its rounds, and what was skipped."""
        return {
            "figures": {
                name: {
                    entry: {**spread(values)._asdict(), "rounds": values}
                    for entry in Figure._fields
                    if any(values := [getattr(figure, entry) for figure in rounds]) or entry in _ALWAYS
                }
                for name, rounds in self.rounds.items()
            },
            "memory": self.memory,
            "skipped": self.skipped,
        }

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


def _of_raw(above: str) -> Callable[[Figures], tuple[list[float], str]]:
    def ratios(figures: Figures) -> tuple[list[float], str]:
        fastest = figures.best([Forward("cnn", "onnxruntime", rows).name for rows in RAW_ROWS], speed)
        return _speeds(above, fastest)(figures)

    return ratios


def _against_best(above: str, *words: str) -> Callable[[Figures], tuple[list[float], str]]:
    return lambda f: _speeds(above, f.best(f.named(*words), speed))(f)


def _latency(figures: Figures) -> tuple[list[float], str]:
    ours = f"{OURS.name} binary 1x1"
    rival = figures.best(figures.named("litserve", "unbatched", "1x1"), lambda figure: -figure.p50)
    return _over([a.p50 for a in figures.of(ours)], [b.p50 for b in figures.of(rival)]), rival


def _tail(name: str) -> Callable[[Figures], tuple[list[float], str]]:
    return lambda f: ([figure.p99 / figure.p50 for figure in f.of(name)], "its median")


def _cpu(above: str, below: str) -> Callable[[Figures], tuple[list[float], str]]:
    return lambda f: (_over([a.cpu for a in f.of(above)], [b.cpu for b in f.of(below)]), below)


def _memory(figures: Figures) -> tuple[list[float], str]:
    for server in (OLD, OURS):
        if server.name not in figures.memory:
            raise Unmeasured(f"the memory of {server.name} was not measured")
    return [figures.memory[OLD.name] / figures.memory[OURS.name]], OURS.name


_MANY, _BULK = "1x32", "64x4"
_WAYS = (("keys", OURS.name), ("all defences", f"{OURS.name} cnn-defended"))


def _defended(above: Ours, below: Ours) -> tuple[str, str]:
    return f"{above.name} cnn-defended", f"{below.name} cnn-defended"


def _by_size(what: str, bound: float, least: bool, above: str, below: str) -> list[Target]:
    compare = _speeds if least else _cpu
    return [
        Target(f"{what}, {size}", bound, least, compare(f"{above} binary {size}", f"{below} binary {size}"))
        for size in (_MANY, _BULK)
    ]


TARGETS: dict[str, list[Target]] = {
    "headline": [
        *(
            Target(f"{what}, {_BULK}: part of the raw forward pass", 0.88, True, _of_raw(f"{name} binary {_BULK}"))
            for what, name in _WAYS
        ),
        *(
            Target(
                f"{what}, {_MANY}: times Mosec's speed",
                bound,
                True,
                _speeds(f"{name} binary {_MANY}", f"{MOSEC.name} octets {_MANY}"),
            )
            for (what, name), bound in zip(_WAYS, (1.3, 1.1), strict=True)
        ),
        Target(
            f"keys, {_MANY}: times LitServe's best",
            7,
            True,
            _against_best(f"{OURS.name} binary {_MANY}", "litserve", _MANY),
        ),
        Target(
            f"a bare loop, {_MANY}: times Mosec's speed; what one Python process can reach here",
            1.3,
            True,
            _speeds(f"{BARE.name} octets {_MANY}", f"{MOSEC.name} octets {_MANY}"),
        ),
        *_by_size("all defences: CPU a row over that with keys", 1.2, False, _WAYS[1][1], _WAYS[0][1]),
        *(
            Target(f"{what}, {size}: 99th percentile over median", 3, False, _tail(f"{name} binary {size}"))
            for what, name in _WAYS
            for size in (_MANY, _BULK)
        ),
    ],
    "workers": [
        *_by_size("Redis: part of SQLite's speed", 0.8, True, *_defended(REDIS, OURS)),
        *_by_size("2 workers: part of one worker's speed", 1.0, True, *_defended(TWO, REDIS)),
        *_by_size("2 workers: CPU over one worker's", 1.15, False, *_defended(TWO, REDIS)),
        Target(
            "2 workers, 1x64: CPU over one worker's at 1x32",
            1.15,
            False,
            _cpu(f"{TWO.name} cnn-defended binary 1x64", f"{REDIS.name} cnn-defended binary {_MANY}"),
        ),
        *_by_size("4 workers: part of one worker's speed", 1.0, True, *_defended(FOUR, REDIS)),
    ],
    "history": [
        *_by_size("10 million rows of 1,000 accounts: part of the speed", 0.9, True, *_defended(OLD, OURS)),
        Target("10 million rows of 1,000 accounts: memory over that with ten accounts", 1.1, False, _memory),
    ],
    "engines": [
        Target(
            "32 rows, raw: ONNX Runtime, times torch eager",
            4,
            True,
            _speeds(Forward("cnn", "onnxruntime", 32).name, Forward("cnn", "torch eager", 32).name),
        ),
        Target(
            "residual network, all defences: CPU a row over that without",
            1.02,
            False,
            _cpu(f"{OURS.name} resnet-defended binary 16x2", f"{OURS.name} resnet binary 16x2"),
        ),
    ],
    "rivals": [
        Target(
            f"keys, {_MANY}: times MLServer's best",
            6,
            True,
            _against_best(f"{OURS.name} binary {_MANY}", "mlserver", _MANY),
        ),
        Target("keys, 1x1: median latency, part of unbatched LitServe's", 0.2, False, _latency),
    ],
}
"""The targets by part; a ratio never leaves its part."""
