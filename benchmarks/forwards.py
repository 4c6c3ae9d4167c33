"""The cost of DAWN, HODA and the out-of-distribution filter, in forward passes of the victim that they guard.

The victim is the zoo's small CNN on rows of 1 x 28 x 28, in its serving engine, on one thread; its task does
not change the cost. DAWN has its exact mapping and its ledger in SQLite; HODA queries ten checkpoints of the
victim; the filter queries a binary CNN. The victim's own answer is ready when they begin. All are timed in turn
within each round, on new rows, in CPU time of all threads; ratios are taken within rounds.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from tqdm import tqdm

from benchmarks.measure import ratios, spread
from defenses import Dawn, Hoda, Ood, Site
from defenses.store import Store, open_store
from server.deployment.companions import Models
from server.deployment.engine import Engine, engine_of
from server.settings import Victim
from wire import Answer, Array, Card, Query
from zoo import folder
from zoo.families.cnn import Cnn
from zoo.network import Network

ROWS = 64  # of a round, in a request each or in one
_SHAPE, _CLASSES, _EARLIER = (1, 28, 28), 10, 10
_RATE = 0.01  # of DAWN's marks

_Ask = Callable[[Array, Answer], Awaitable[object]]


@dataclass(frozen=True)
class Forwards:
    """A comparison.

    Attributes:
        rounds: Number of rounds.
        seed: Seed of rows and weights.
        engine: The engine of all passes; see :class:`server.settings.Victim`.
    """

    rounds: int
    seed: int = 0
    engine: str = "auto"

    def run(self, bar: tqdm[Any]) -> list[dict[str, Any]]:
        """Runs the rounds, with one row and with :data:`ROWS` rows a request; returns the figures."""
        with tempfile.TemporaryDirectory() as home, ThreadPoolExecutor(1) as turns:
            return asyncio.run(self._run(Path(home), turns, bar))

    async def _run(self, home: Path, turns: ThreadPoolExecutor, bar: tqdm[Any]) -> list[dict[str, Any]]:
        victim = Victim.model_validate({"name": "cnn", "folder": home, "engine": self.engine})
        network = _cnn(_CLASSES, self.seed)
        network.checkpoints = [_cnn(_CLASSES, seed).module.state_dict() for seed in range(1, 1 + _EARLIER)]
        folder.save(_cnn(2, self.seed), home / "filter")
        card = Card("cnn", _SHAPE, _CLASSES, max_rows=ROWS)
        engine = engine_of(network, victim, card, home, threads=1)
        store = open_store(f"sqlite:///{home / 'store.db'}")
        try:
            asks = await _asks(Models(network, victim, card, home, 1, turns), card, store, home / "filter")
            return [figure for size in (1, ROWS) for figure in await self._rounds(engine, asks, size, bar)]
        finally:
            await store.close()

    async def _rounds(
        self, engine: Engine, asks: dict[str, _Ask], size: int, bar: tqdm[Any]
    ) -> list[dict[str, Any]]:
        rng = np.random.default_rng([self.seed, size])
        times: dict[str, list[float]] = {name: [] for name in ("forward", *asks)}
        for number in range(self.rounds + 1):
            x = rng.integers(256, size=(ROWS, *_SHAPE), dtype=np.uint8) / np.float32(255)
            requests = [x[at : at + size] for at in range(0, ROWS, size)]
            start = time.process_time()
            probs = [engine.predict([rows]) for rows in requests]
            spent = {"forward": time.process_time() - start}
            answers = [Answer(p.argmax(axis=1), p) for p in probs]
            for name, ask in asks.items():
                start = time.process_time()
                for rows, answer in zip(requests, answers, strict=True):
                    await ask(rows, answer)
                spent[name] = time.process_time() - start
            if number:  # the first warms up
                for name, seconds in spent.items():
                    times[name].append(seconds)
                bar.update()
        return [
            {
                "layer": name,
                "rows": size,
                "microseconds_a_row": spread([1e6 * t / ROWS for t in times[name]])._asdict(),
                "forward_microseconds_a_row": spread([1e6 * t / ROWS for t in times["forward"]])._asdict(),
                "forwards": ratios(times[name], times["forward"])._asdict(),
            }
            for name in asks
        ]


def _cnn(classes: int, seed: int) -> Network:
    return Network.new(Cnn(), _SHAPE, tuple(map(str, range(classes))), seed=seed, device="cpu")


async def _asks(models: Models, card: Card, store: Store, other: Path) -> dict[str, _Ask]:
    """Returns the work of each layer on a request and its answer."""
    dawn = Dawn(_RATE).bind(Site(card.model, card, "0" * 64, bytes(32), store, cast(Any, None), models))

    async def mark(x: Array, answer: Answer) -> object:
        async def handle(query: Query) -> Answer:
            return answer

        return await dawn(Query("someone", x, 0.0), handle)

    async def watch(detector: Hoda | Ood) -> _Ask:
        features, state = await detector.featurizer(models, card), detector.begin()

        async def ask(x: Array, answer: Answer) -> object:
            return detector.observe(state, await features(x, answer.labels), answer.labels)

        return ask

    hoda, ood = Hoda(2.0, (1.0, *[0.0] * _EARLIER)), Ood(other, 1.0)
    return {"dawn": mark, "hoda": await watch(hoda), "ood": await watch(ood)}
