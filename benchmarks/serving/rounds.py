"""The comparison: makes the networks, starts and checks the servers, and measures all of them in rounds."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.measure import spread
from benchmarks.serving.cases import CASES, RAW, Case, raw
from benchmarks.serving.encodings import Answered, BadStatus, ask
from benchmarks.serving.engine import load
from benchmarks.serving.environments import RIVALS
from benchmarks.serving.load import load as load_server
from benchmarks.serving.networks import make
from benchmarks.serving.servers import KEEP_BLOCKS, ONE_THREAD, Missing, Place, Running, Server
from benchmarks.serving.targets import TARGETS, Figure, Figures
from experiments.header import header
from experiments.parties import Parties
from experiments.processes import Failed
from wire import Array, BadInput, WireError

WARMUP = 0.3  # seconds
PATIENCE = 20.0  # seconds for a first answer


@dataclass(frozen=True)
class Bench:
    """A comparison of servers.

    Attributes:
        cache: Folder of the rivals' environments and of the networks.
        rounds: Number of rounds.
        seconds: Length of each measurement's window.
        only: Words; a measurement's name must contain one of them, if there are any.
    """

    cache: Path
    rounds: int = 5
    seconds: float = 3.0
    only: Sequence[str] = ()
    figures: Figures = field(default_factory=Figures)
    _rows: dict[str, Array] = field(default_factory=dict, init=False, repr=False)
    _running: dict[str, Running] = field(default_factory=dict, init=False, repr=False)

    def run(self) -> dict[str, Any]:
        """Runs all rounds; returns all figures, behind the header.

        Raises:
            BadInput: No measurement's name contains any of the words.
        """
        cases = [case for case in CASES if self._wanted(case.name)]
        forwards = [forward for forward in RAW if self._wanted(raw(*forward))]
        if not cases and not forwards:
            raise BadInput(f"no measurement's name contains {' or '.join(self.only)}")
        settings = {"rounds": self.rounds, "seconds": self.seconds, "only": list(self.only), "engine_threads": 1}
        head = header(settings)
        with Parties() as parties, contextlib.ExitStack() as ending:
            place = Place(parties, self.cache)
            parameters = {}
            for family in dict.fromkeys(
                [*(case.family for case in cases), *(family for family, _, _ in forwards)]
            ):
                self._rows[family], parameters[family] = make(place.work / family, family, self.cache / "networks")
            loops = {family: _loop(place, family, ending) for family in {family for family, _, _ in forwards}}
            total = self.rounds * (len(forwards) + len(cases))
            with tqdm(total=total, unit="measurement", dynamic_ncols=True) as bar:
                for _ in range(self.rounds):
                    for family, engine, rows in forwards:
                        name = raw(family, engine, rows)
                        bar.set_postfix_str(name)
                        self.figures.add(name, _forward(loops[family], engine, rows, self.seconds / 3))
                        bar.update()
                    for server in dict.fromkeys(case.server for case in cases):
                        self._visit(server, [case for case in cases if case.server == server], place, ending, bar)
        head["settings"]["parameters"] = parameters
        head["versions"]["rivals"] = {rival: list(pins) for rival, pins in RIVALS.items()}
        return {**head, **self._results()}

    def _wanted(self, name: str) -> bool:
        return not self.only or any(word in name for word in self.only)

    def _visit(
        self, server: Server, cases: Sequence[Case], place: Place, ending: contextlib.ExitStack, bar: tqdm[Any]
    ) -> None:
        """Measures a server's cases once; a case that fails is skipped from then on."""
        with contextlib.ExitStack() as leaving:
            running = self._running.get(server.name)
            if running is None and server.name not in self.figures.skipped:
                bar.set_postfix_str(f"starting {server.name}")
                try:
                    running = server.start(place, leaving if server.restless else ending)
                    self._await(cases[0], running)
                except (Missing, Failed) as error:
                    self._skip(server.name, str(error), cases)
            if running is not None and not server.restless:
                self._running[server.name] = running
            for case in cases:
                bar.set_postfix_str(case.name)
                if running is not None and case.name not in self.figures.skipped:
                    try:
                        self._check(case, place, running)
                        self.figures.add(case.name, self._measured(case, running))
                    except (BadStatus, WireError, OSError, KeyError, ValueError) as error:
                        self._skip(case.name, f"{type(error).__name__}: {error}", [case])
                bar.update()
            if running is not None:
                self.figures.memory[server.name] = running.memory()

    def _await(self, case: Case, server: Running) -> None:
        """Waits for a first answer, since some servers listen before their model is loaded."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with contextlib.suppress(BadStatus, OSError, ValueError):
                ask(server.port, self._requests(case, server)[0], case.server.encodings[case.encoding])
                return
            time.sleep(0.2)

    def _check(self, case: Case, place: Place, server: Running) -> None:
        """Raises :class:`ValueError` unless every connection gets the model's own answer."""
        encoding = case.server.encodings[case.encoding]
        predict = load(place.work / case.family, case.family, "torch eager")
        for request, x in zip(self._requests(case, server), self._bodies(case), strict=True):
            _agree(case, ask(server.port, request, encoding), predict(x))

    def _skip(self, name: str, why: str, cases: Sequence[Case]) -> None:
        self.figures.skipped[name] = why
        for case in cases:
            self.figures.rounds.pop(case.name, None)
        tqdm.write(f"skipped: {name}: {why}", file=sys.stderr)

    def _bodies(self, case: Case) -> list[Array]:
        """Returns the rows that each connection sends."""
        x = self._rows[case.family]
        return [np.roll(x, -case.rows * number, axis=0)[: case.rows] for number in range(case.connections)]

    def _requests(self, case: Case, server: Running) -> list[bytes]:
        encoding = case.server.encodings[case.encoding]
        return [
            encoding.request(case.model, x, server.headers(number)) for number, x in enumerate(self._bodies(case))
        ]

    def _measured(self, case: Case, server: Running) -> Figure:
        tally = load_server(
            server.pids,
            server.port,
            self._requests(case, server),
            warmup=WARMUP,
            seconds=case.stretch * self.seconds,
        )
        errors = sum(tally.errors.values())
        if errors:
            tqdm.write(f"errors: {case.name}: {tally.errors} {tally.first_error}", file=sys.stderr)
        images = max(1, tally.answers * case.rows)
        return Figure(
            tally.answers * case.rows / tally.seconds,
            1e6 * tally.server_cpu / images,
            tally.p50,
            tally.p99,
            errors,
        )

    def _results(self) -> dict[str, Any]:
        return {
            "figures": {
                name: {
                    entry: spread([getattr(figure, entry) for figure in rounds])._asdict()
                    for entry in ("speed", "cpu", "p50", "p99")
                }
                | {"errors": sum(figure.errors for figure in rounds), "rounds": len(rounds)}
                for name, rounds in self.figures.rounds.items()
            },
            "memory": self.figures.memory,
            "skipped": self.figures.skipped,
            "targets": [target.judged(self.figures) for target in TARGETS],
        }


def _agree(case: Case, answered: Answered, probs: Array) -> None:
    """Raises :class:`ValueError` if an answer is not the model's."""
    labels = probs.argmax(axis=1)
    wrong = int((answered.labels != labels).sum())
    if wrong:
        raise ValueError(f"{wrong} of {len(labels)} labels are not the model's")
    if not case.defended:
        off = float(np.abs(answered.probs - probs).max())
        if off > 1e-4:
            raise ValueError(f"probabilities are off by {off:.1e}; expected at most 1e-4")


def _loop(place: Place, family: str, ending: contextlib.ExitStack) -> subprocess.Popen[str]:
    """Starts the process of raw forward passes."""
    loop = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.serving.raw", str(place.work / family), family],
        env={**os.environ, **ONE_THREAD, **KEEP_BLOCKS},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    ending.enter_context(loop)
    ending.callback(loop.kill)
    assert loop.stdout is not None
    loop.stdout.readline()
    return loop


def _forward(loop: subprocess.Popen[str], engine: str, rows: int, seconds: float) -> Figure:
    assert loop.stdin is not None and loop.stdout is not None
    print(json.dumps([engine, rows, seconds]), file=loop.stdin, flush=True)
    took = json.loads(loop.stdout.readline())
    return Figure(took["images"] / took["wall"], 1e6 * took["cpu"] / took["images"])
