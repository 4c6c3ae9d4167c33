"""The comparison: makes the networks, starts and checks the servers, and measures all of them in rounds."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.machine import Clocks, processor
from benchmarks.serving import watching
from benchmarks.serving.cases import PARTS, WATCHED, Case, Forward, Part
from benchmarks.serving.encodings import Answered, BadStatus
from benchmarks.serving.engine import load
from benchmarks.serving.environments import RIVALS
from benchmarks.serving.load import load as load_server
from benchmarks.serving.networks import make
from benchmarks.serving.servers import KEEP_BLOCKS, ONE_THREAD, Missing, Place, Running, Server
from benchmarks.serving.targets import TARGETS, Figure, Figures
from experiments.header import cores, header
from experiments.parties import Parties
from experiments.processes import Failed
from wire import Array, BadInput, WireError

WARMUP = 0.5  # seconds
PATIENCE = 20.0  # seconds for a first answer
CHECKED = 32  # connections whose first answer is compared with the model's own


@dataclass(frozen=True)
class Bench:
    """A comparison of servers.

    Attributes:
        cache: Folder of the rivals' environments and of the networks.
        rounds: Number of rounds.
        seconds: Length of each measurement's window.
        parts: Names of the parts; all, if there are none.
        only: Words; a measurement's name must contain one of them, if there are any.
    """

    cache: Path
    rounds: int = 5
    seconds: float = 5.0
    parts: Sequence[str] = ()
    only: Sequence[str] = ()

    def run(self) -> dict[str, Any]:
        """Runs the parts one after another, each in rounds of its own; returns all figures, behind the header.

        Raises:
            BadInput: No measurement's name contains any of the words.
        """
        wanted = {name: self._wanted(PARTS[name]) for name in self.parts or PARTS}
        total = self.rounds * sum(map(_measurements, wanted.values()))
        if not total:
            raise BadInput(f"no measurement's name contains {' or '.join(self.only)}")
        head = header(
            {
                **{name: getattr(self, name) for name in ("rounds", "seconds")},
                "parts": list(wanted),
                "only": list(self.only),
                "engine_threads": 1,
            }
        )
        head["machine"]["processor"] = processor()
        head["versions"]["rivals"] = {rival: list(pins) for rival, pins in RIVALS.items()}
        start, parts = Clocks.read(), {}
        with tqdm(total=total, unit="measurement", dynamic_ncols=True) as bar:
            for name, part in wanted.items():
                if _measurements(part):
                    parts[name] = _Run(self, name, part, bar).run()
        passed = Clocks.read().since(start)
        head["machine"]["steal"] = passed.steal / (passed.wall * cores())
        head["machine"]["load_after"] = [round(load, 2) for load in os.getloadavg()]
        return {**head, "parts": parts}

    def _wanted(self, part: Part) -> Part:
        def named(name: str) -> bool:
            return not self.only or any(word in name for word in self.only)

        return Part(
            part.setting,
            tuple(case for case in part.cases if named(case.name)),
            tuple(forward for forward in part.forwards if named(forward.name)),
            part.watching and named(WATCHED.name),
        )


def _measurements(part: Part) -> int:
    return len(part.cases) + len(part.forwards) + part.watching * watching.COURSES


@dataclass(frozen=True)
class _Run:
    """The rounds of a part."""

    bench: Bench
    name: str
    part: Part
    bar: tqdm[Any]
    figures: Figures = field(default_factory=Figures)
    _rows: dict[str, Array] = field(default_factory=dict)
    _running: dict[str, Running] = field(default_factory=dict)

    def run(self) -> dict[str, Any]:
        """Runs all rounds; returns the part's figures."""
        start, parameters = time.perf_counter(), {}
        with Parties() as parties, contextlib.ExitStack() as ending:
            place = Place(parties, self.bench.cache)
            families = [*(case.family for case in self.part.cases), *(f.family for f in self.part.forwards)]
            for family in dict.fromkeys(families or ["cnn"]):
                self._rows[family], parameters[family] = make(
                    place.work / family, family, self.bench.cache / "networks"
                )
            loops = {family: _loop(place, family, ending) for family in {f.family for f in self.part.forwards}}
            for number in range(self.bench.rounds):
                for forward in self.part.forwards:
                    self._next(forward.name)
                    self.figures.add(
                        forward.name, _forward(loops[forward.family], forward, self.bench.seconds / 3)
                    )
                    self.bar.update()
                for server in dict.fromkeys(case.server for case in self.part.cases):
                    cases = [case for case in self.part.cases if case.server == server]
                    with self._visit(server, [case.name for case in cases], place, ending) as running:
                        self._measure(cases, place, running)
                if self.part.watching:
                    with self._visit(WATCHED, [], place, ending) as running:
                        self._watch(running, number)
        return {
            "setting": self.part.setting,
            "parameters": parameters,
            "minutes": (time.perf_counter() - start) / 60,
            **self.figures.results(),
            "targets": [target.judged(self.figures) for target in TARGETS.get(self.name, ())],
        }

    def _next(self, name: str) -> None:
        self.bar.set_postfix_str(f"{self.name}: {name}")

    @contextlib.contextmanager
    def _visit(
        self, server: Server, names: Sequence[str], place: Place, ending: contextlib.ExitStack
    ) -> Iterator[Running | None]:
        """Gives a running server, which goes on after the visit unless it is restless; None if it cannot run."""
        with contextlib.ExitStack() as leaving:
            running = self._running.get(server.name)
            if running is None and server.name not in self.figures.skipped:
                self._next(f"starting {server.name}")
                try:
                    running = server.start(place, leaving if server.restless else ending)
                except (Missing, Failed) as error:
                    self._skip(server.name, str(error), names)
            if running is not None and not server.restless:
                self._running[server.name] = running
            yield running
            if running is not None:
                self.figures.memory[server.name] = running.memory()

    def _measure(self, cases: Sequence[Case], place: Place, server: Running | None) -> None:
        """Measures a server's cases once; a case that fails is skipped from then on."""
        if server is not None:
            self._await(cases[0], server)
        for case in cases:
            self._next(case.name)
            if server is not None and case.name not in self.figures.skipped:
                try:
                    requests = self._requests(case, server)
                    self._check(case, place, server, requests)
                    self.figures.add(case.name, self._measured(case, server, requests))
                except (BadStatus, WireError, OSError, KeyError, ValueError) as error:
                    self._skip(case.name, f"{type(error).__name__}: {error}", [case.name])
            self.bar.update()

    def _watch(self, server: Running | None, number: int) -> None:
        if server is not None:
            self._next(WATCHED.name)
            try:
                for name, figure in watching.course(server, self._rows["cnn"], number):
                    self.figures.add(name, figure)
            except (BadStatus, WireError, OSError) as error:
                self._skip(WATCHED.name, f"{type(error).__name__}: {error}", [])
        self.bar.update(watching.COURSES)

    def _await(self, case: Case, server: Running) -> None:
        """Waits for a first answer, since some servers listen before their model is loaded."""
        encoding = case.server.encodings[case.encoding]
        request = encoding.request(case.model, self._rows[case.family][: case.rows], server.headers(0))
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with contextlib.suppress(BadStatus, OSError, ValueError):
                encoding.ask(server.ports[encoding.protocol], request)
                return
            time.sleep(0.2)

    def _check(self, case: Case, place: Place, server: Running, requests: Sequence[Sequence[bytes]]) -> None:
        """Raises :class:`ValueError` unless the first connections get the model's own answers."""
        encoding = case.server.encodings[case.encoding]
        predict = load(place.work / case.family, case.family, "torch eager")
        for number, (first, *_) in enumerate(requests[:CHECKED]):
            probs = predict(next(self._batches(case, number)))
            _agree(case, encoding.ask(server.ports[encoding.protocol], first), probs)

    def _skip(self, name: str, why: str, names: Sequence[str]) -> None:
        self.figures.skipped[name] = why
        for each in names:
            self.figures.rounds.pop(each, None)
        tqdm.write(f"skipped: {name}: {why}", file=sys.stderr)

    def _batches(self, case: Case, connection: int) -> Iterator[Array]:
        """Yields the rows of each request of a connection: together, the connections send all rows in turn."""
        x = self._rows[case.family]
        batches = len(x) // case.rows
        for number in range(connection % batches, batches, case.connections):
            yield x[number * case.rows : (number + 1) * case.rows]

    def _requests(self, case: Case, server: Running) -> list[list[bytes]]:
        """Returns the requests of each connection."""
        encoding = case.server.encodings[case.encoding]
        return [
            [
                encoding.request(case.model_of(number), x, server.headers(number))
                for x in self._batches(case, number)
            ]
            for number in range(case.connections)
        ]

    def _measured(self, case: Case, server: Running, requests: Sequence[Sequence[bytes]]) -> Figure:
        protocol = case.server.encodings[case.encoding].protocol
        tally = load_server(
            server.pids,
            server.ports[protocol],
            requests,
            warmup=WARMUP,
            seconds=case.stretch * self.bench.seconds,
            rate=case.rate,
            protocol=protocol,
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
            tally.waiting,
            tally.late,
            *(seconds / tally.seconds for seconds in (tally.client_cpu, tally.other_cpu, tally.steal)),
        )


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


def _forward(loop: subprocess.Popen[str], forward: Forward, seconds: float) -> Figure:
    assert loop.stdin is not None and loop.stdout is not None
    print(json.dumps([forward.engine, forward.rows, seconds]), file=loop.stdin, flush=True)
    took = json.loads(loop.stdout.readline())
    return Figure(took["images"] / took["wall"], 1e6 * took["cpu"] / took["images"])
