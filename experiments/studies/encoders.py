"""What an encoder's embeddings give a thief, and what B4B leaves of that: ``python -m experiments encoders``.

A surrogate is worth what it does on rows that no party asked about: the mean cosine of its embeddings and the
victim's, as they are and after the best linear map between the two, and the accuracy of a linear probe, which
learns the classes of labelled rows from embeddings. The map and the probe are fitted on other rows. All thefts
take as many steps of training. Baselines: the pixels, an encoder at random, one that learnt the answers in a
random order, and one that learnt from the probe's labels and asked nobody.

B4B's planes and threshold were chosen by the coverage of a victim of seed 100, which no table has.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from attacker.extraction.encoder import Encoder as Theft
from defenses import B4b
from experiments import metrics
from experiments.header import header
from experiments.lab import Lab
from experiments.parties import Parties, Server
from wire import Answer, Array, BadInput, Oracle
from zoo.data import Pool
from zoo.families.encoder import Encoder
from zoo.network import Network
from zoo.training import Training

BARE, GUARDED = "bare", "B4B"
MEASURES = ("cosine", "mapped cosine", "probe")


@dataclass(frozen=True)
class Encoders:
    """Sizes of the study.

    Attributes:
        images: Data set.
        rows: Rows of a theft.
        bits: Random planes of B4B.
        beta: Coverage at which its noise is 0.8 of an embedding.
        width: Channels of the first block of surrogates; the victim has 16.
        epochs: Passes over the rows of the largest theft; the others take as many steps.
        probe: Labelled rows from which a linear probe learns.
        accounts: Numbers of accounts that share the largest theft.
        classes: Classes of the narrow customer's task.
        task: Rows of a customer's task that train its probe, and as many that test it.
    """

    images: str = "fashion_mnist"
    rows: tuple[int, ...] = (1000, 5000)
    bits: int = 8
    beta: float = 0.6
    width: int = 8
    epochs: int = 5
    probe: int = 2000
    accounts: tuple[int, ...] = (2, 10)
    classes: tuple[int, ...] = (0, 6)
    task: int = 500

    def __post_init__(self) -> None:
        if (
            min(*self.rows, self.epochs, self.probe, self.task) < 2
            or min(self.accounts) < 2
            or len(self.classes) < 2
        ):
            raise BadInput(f"{self}: expected at least 2 rows, epochs, accounts and classes")

    def run(
        self,
        seeds: Sequence[int],
        data: Path | None,
        cache: Path,
        write: Callable[[dict[str, Any]], object] = lambda results: None,
    ) -> dict[str, Any]:
        """Runs all thefts over HTTP; returns all figures, behind the header, and writes after each seed."""
        start, head = time.perf_counter(), header(asdict(self), seeds=list(seeds))
        found: list[dict[str, Any]] = []
        results: dict[str, Any] = {}
        with Parties(None) as parties:
            lab = Lab(parties, cache, data, tuple(seeds))
            for seed in seeds:
                for record in tqdm(self._seed(lab, seed), desc=f"seed {seed}", unit="row", dynamic_ncols=True):
                    found.append({"seed": seed, **record})
                seconds = round(time.perf_counter() - start, 1)
                results = {**head, "found": found, "seconds": seconds}
                write(results)
        return results

    def _seed(self, lab: Lab, seed: int) -> Iterator[dict[str, Any]]:
        pools = lab.roles(self.images, seed)
        victim = lab.train(pools["victim"], seed, family=Encoder(), label="victim")
        layer = f'{{ type = "b4b", bits = {self.bits}, beta = {self.beta} }}'
        server = lab.serve(f"encoders-{seed}", {BARE: (victim, ""), GUARDED: (victim, layer)})
        judge = _Judge(victim, pools["control"].take(slice(self.probe)), pools["evaluation"])
        yield {"what": "the victim itself", **judge.of(victim)}
        yield from self._baselines(lab, server, victim, pools, judge, seed)
        for model in (BARE, GUARDED):
            for rows in self.rows:
                for loss in ("mse", "contrastive"):
                    theft = self._theft(rows, loss=loss)
                    oracle = lab.oracle(server, model, f"{model}-{rows}-{loss}")
                    stolen = theft.extract(oracle, pools["pool"], np.random.default_rng([seed, 1]))
                    coverage = self.coverage(victim, pools["pool"].x[:rows], seed)
                    yield {"what": f"{model}, {loss}", "rows": rows, "coverage": coverage, **judge.of(stolen)}
        rows = max(self.rows)
        for many in self.accounts:
            oracles = [lab.oracle(server, GUARDED, f"of-{many}-{number}") for number in range(many)]
            theft = self._theft(rows)
            stolen = theft.extract_together(oracles, pools["pool"], np.random.default_rng([seed, 1]))
            asked, own = (
                sum(oracle.spent for oracle in oracles),
                self.coverage(victim, pools["pool"].x, seed, many),
            )
            about = {"rows": rows, "asked": asked, "coverage": own}
            yield {"what": f"B4B, mse, {many} accounts, mapped", **about, **judge.of(stolen)}
        oracles = [lab.oracle(server, GUARDED, f"unmapped-{number}") for number in range(2)]
        stolen = self._theft(rows).extract(_in_turn(oracles), pools["pool"], np.random.default_rng([seed, 1]))
        yield {"what": "B4B, mse, 2 accounts, as told", "rows": rows, **judge.of(stolen)}
        for name, kept in (("2 classes", self.classes), ("10 classes", tuple(range(10)))):
            yield from self._customer(lab, server, victim, pools["shadow"], name, kept, seed)

    def _theft(self, rows: int, **settings: Any) -> Theft:
        return Theft(rows, width=self.width, epochs=self.epochs * max(self.rows) // rows, **settings)

    def _baselines(
        self, lab: Lab, server: Server, victim: Network, pools: Mapping[str, Pool], judge: _Judge, seed: int
    ) -> Iterator[dict[str, Any]]:
        known, other = judge.known, judge.other
        assert known.y is not None and other.y is not None
        pixels = [pool.x.reshape(len(pool), -1) for pool in (known, other)]
        yield {"what": "pixels", "probe": metrics.probed(pixels[0], known.y, pixels[1], other.y)}
        blank = Encoder(self.width).untrained(victim.card(), seed=seed + 1000)
        yield {"what": "an encoder at random", **judge.of(blank)}
        own = Encoder(self.width).train(
            known, Training(self.epochs), seed + 2000, device="cpu", label="own labels"
        )
        yield {"what": "an encoder of the probe's own labels", **judge.of(own)}
        rng = np.random.default_rng([seed, 2])
        oracle, rows = lab.oracle(server, BARE, "shuffled"), max(self.rows)

        def shuffled(x: Array) -> Answer:
            return oracle.query(x)[rng.permutation(len(x))]

        stolen = self._theft(rows).extract(Oracle(shuffled, oracle.card), pools["pool"], rng)
        yield {"what": "bare, mse, answers shuffled", "rows": rows, **judge.of(stolen)}

    def _customer(
        self, lab: Lab, server: Server, victim: Network, pool: Pool, name: str, kept: tuple[int, ...], seed: int
    ) -> Iterator[dict[str, Any]]:
        """Yields the accuracy of a customer's own probe, learnt and tested on what it is told."""
        assert pool.y is not None
        chosen = pool.take(np.flatnonzero(np.isin(pool.y, kept))[: 2 * self.task])
        assert chosen.y is not None
        for model in (BARE, GUARDED):
            told = (
                lab.oracle(server, model, f"customer-{name.replace(' ', '-')}-{model}").query(chosen.x).embeddings
            )
            assert told is not None
            first, rest = slice(self.task), slice(self.task, None)
            accuracy = metrics.probed(told[first], chosen.y[first], told[rest], chosen.y[rest])
            coverage = self.coverage(victim, chosen.x, seed)
            about = {"rows": len(chosen), "coverage": coverage}
            yield {"what": f"{model}, a customer of {name}", **about, "probe": accuracy}

    def coverage(self, victim: Network, x: Array, seed: int, accounts: int = 1) -> float:
        """Returns the share of buckets that rows fall into, by planes drawn as the server draws its own.

        The rows of one of several accounts are the first, with those that all are asked about.
        """
        if accounts > 1:
            x = x[: int(max(self.rows) * (1 + Theft().overlap) / accounts)]
        b4b = B4b(self.bits, beta=self.beta)
        planes = np.random.default_rng([seed, 3]).normal(size=(victim.card().embedding, self.bits))
        state = b4b.observe(b4b.begin(), b4b.buckets(planes, victim.predict(x)), np.zeros(len(x), np.int64))
        return float(state.seen.mean())


@dataclass(frozen=True)
class _Judge:
    """Measures encoders against a victim on rows that no party asks about; map and probe learn from others."""

    victim: Network
    known: Pool
    other: Pool

    def of(self, encoder: Network) -> dict[str, float]:
        known, other = self.known, self.other
        assert known.y is not None and other.y is not None
        own, theirs = ([model.predict(pool.x) for pool in (known, other)] for model in (encoder, self.victim))
        return {
            "cosine": metrics.cosine(own[1], theirs[1]),
            "mapped cosine": metrics.cosine(metrics.linearly_mapped(own[0], theirs[0], own[1]), theirs[1]),
            "probe": metrics.probed(own[0], known.y, own[1], other.y),
        }


def _in_turn(oracles: Sequence[Oracle]) -> Oracle:
    """Returns an oracle that spreads the rows of each request over accounts, and joins the answers as they are."""

    def ask(x: Array) -> Answer:
        parts = np.array_split(x, len(oracles))
        return Answer.join([oracle.query(part) for oracle, part in zip(oracles, parts, strict=True)])

    return Oracle(ask, oracles[0].card)


def table(results: Mapping[str, Any]) -> str:
    """Formats results: a line for each encoder or customer, mean and range over seeds in per cent."""
    groups: dict[tuple[str, Any], list[Mapping[str, Any]]] = {}
    for record in results["found"]:
        groups.setdefault((record["what"], record.get("rows", "")), []).append(record)
    lines = [["encoder", "rows", "coverage", *MEASURES]]
    for (what, rows), records in groups.items():
        numbers = (_cell([r[name] for r in records if name in r]) for name in ("coverage", *MEASURES))
        lines.append([what, str(rows), *numbers])
    out = ["| " + " | ".join(line) + " |" for line in lines]
    out.insert(1, "|" + "---|" * len(lines[0]))
    return "\n".join(out)


def _cell(values: Sequence[float]) -> str:
    if not values:
        return ""
    mean, low, high = (100 * part for part in (float(np.mean(values)), min(values), max(values)))
    return f"{mean:.1f} ({low:.1f} to {high:.1f})" if len(values) > 1 else f"{mean:.1f}"
