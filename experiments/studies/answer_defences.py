"""What defences that change answers cost honest customers, and what is left for a thief who knows them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from attacker.extraction.imitations import Defence
from attacker.extraction.informed import Informed
from defenses.training.misinforming import misinforming
from experiments import metrics
from experiments.header import header
from experiments.lab import Lab
from experiments.parties import Parties, Server
from wire import Answer, Array, BadInput
from wire.http import Endpoint
from zoo import folder
from zoo.data import Pool
from zoo.families import NETWORKS
from zoo.network import Network
from zoo.training import Training

LAYERS: Mapping[str, tuple[str, Defence, float]] = {
    "none": ("", "noise", 0.01),
    "rounding, 1 digit": ('{ type = "rounding", digits = 1 }', "rounding", 1),
    "top-1": ('{ type = "top_k", k = 1 }', "top_k", 1),
    "noise, 0.2": ('{ type = "gaussian_noise", sigma = 0.2 }', "noise", 0.2),
    "flips, 0.2": ('{ type = "label_flips", rate = 0.2 }', "flips", 0.2),
    "reverse sigmoid": ('{ type = "reverse_sigmoid", beta = 0.9, gamma = 0.2 }', "reverse_sigmoid", 0.9),
    "misinformation": (
        '{ type = "misinformation", folder = "WRONG", tau = 0.9 }',
        "misinformation",
        0.9,
    ),
    "MAD": ('{ type = "mad", folder = "SURROGATE", epsilon = 0.9 }', "bounded", 0.9),
    "MAD, label kept": (
        '{ type = "mad", folder = "SURROGATE", epsilon = 0.9, keep_label = true }',
        "bounded",
        0.9,
    ),
    "ModelGuard-W": ('{ type = "modelguard_w", epsilon = 0.9 }', "bounded", 0.9),
    "ModelGuard-S": ('{ type = "modelguard_s", epsilon = 0.9 }', "bounded", 0.9),
    "deceive, from an alarm in row 102 on": (
        '{ type = "prada", delta = 1.0, reaction = "deceive" }',
        "deceive",
        0.9,
    ),
}
"""Each defence in TOML, and what a thief who knows it expects, with its strength.

A threshold of 1 flags everybody at PRADA's first test, so that the last line says what deceit costs those whom it
meets, and not whom it meets.
"""

THIEVES: Mapping[str, Callable[[Defence, float], dict[str, Any]]] = {
    "naive": lambda expects, by: {"recover": "none"},
    "top-1": lambda expects, by: {"recover": "top_1"},
    "smoothing": lambda expects, by: {"recover": "smoothing", "strength": 0.2},
    "partial Bayes": lambda expects, by: {
        "recover": "partial_bayes",
        "expects": expects,
        "strength": by,
    },
    "D-DAE": lambda expects, by: {"recover": "d_dae", "expects": expects, "strength": by},
    "top-1, a fifth left out": lambda expects, by: {"recover": "top_1", "drop": 0.2},
}


@dataclass(frozen=True)
class AnswerDefences:
    """Agreement of thieves, naive and informed, with a defended victim, beside what the defence costs.

    Attributes:
        images: Data set of victim and thieves.
        family: Family of the victim, and of the surrogates.
        rows: Rows of a theft.
        epochs: Passes of a surrogate over them.
        test: Rows on which the cost is measured.
        seeds: Number of seeds.
    """

    images: str = "fashion_mnist"
    family: str = "mlp"
    rows: int = 1000
    epochs: int = 20
    test: int = 1000
    seeds: int = 3

    def __post_init__(self) -> None:
        if self.seeds < 2 or min(self.rows, self.epochs, self.test) < 1 or self.family not in NETWORKS:
            raise BadInput(f"{self}: expected at least 2 seeds, 1 row and epoch, and a network as family")

    def run(
        self,
        out: Path | None,
        cache: Path,
        data: Path | None,
        write: Callable[[dict[str, Any]], None] = lambda results: None,
    ) -> dict[str, Any]:
        """Runs all thefts over HTTP; returns all figures, behind the header.

        Args:
            out: Folder of logs and stores; by default a temporary one, which is removed.
            cache: Folder of what a later run finds again.
            data: The user's data folder, if any.
            write: Is called with what was found so far, after each seed.
        """
        start, head = time.perf_counter(), header(dataclasses.asdict(self), seeds=range(self.seeds))
        found: list[dict[str, Any]] = []
        nulls: list[float] = []
        results: dict[str, Any] = {}
        with Parties(out) as parties:
            lab = Lab(parties, cache, data, tuple(range(self.seeds)))
            for seed in lab.seeds:
                nulls.append(self.null(lab, seed))
                found += self._seed(lab, seed)
                seconds = round(time.perf_counter() - start, 1)
                results = {**head, "null": nulls, "defences": _joined(found), "seconds": seconds}
                write(results)
        return results

    def null(self, lab: Lab, seed: int) -> float:
        """Returns the agreement of a model of the true labels of the thief's rows, which asks nothing."""
        pools = lab.roles(self.images, seed)
        victim = lab.train(pools["victim"], seed, family=self.family, label="victim")
        own, pool = Network.untrained(NETWORKS[self.family](), victim.card(), seed=seed), pools["pool"]
        assert pool.y is not None
        own.fit(pool.x[: self.rows], pool.y[: self.rows], Training(self.epochs, lr=4e-3), seed=seed, label="null")
        x = pools["evaluation"].x
        return metrics.agreement(own.predict(x).argmax(axis=1), victim.predict(x).argmax(axis=1)).rate

    def _seed(self, lab: Lab, seed: int) -> Iterator[dict[str, Any]]:
        pools = lab.roles(self.images, seed)
        victim = lab.train(pools["victim"], seed, family=self.family, label="victim")
        server = self._serve(lab, victim, pools, seed)
        x, y = pools["evaluation"].x, pools["evaluation"].y
        truth = victim.predict(x)
        assert y is not None
        for number, (name, (_, expects, strength)) in enumerate(
            tqdm(LAYERS.items(), desc=f"seed {seed}", unit="defence", dynamic_ncols=True)
        ):
            told = self._told(server, f"victim-{number}", f"customer-{number}", x[: self.test])
            assert told.probs is not None
            record: dict[str, Any] = {
                "defence": name,
                "l1": float(np.abs(np.nan_to_num(told.probs) - truth[: self.test]).sum(axis=1).mean()),
                "accuracy": metrics.agreement(told.labels, y[: self.test]).rate,
                "bare accuracy": metrics.agreement(truth[: self.test].argmax(axis=1), y[: self.test]).rate,
            }
            for place, (thief, informed) in enumerate(THIEVES.items()):
                attack = Informed(family=self.family, epochs=self.epochs, **informed(expects, strength))
                account = f"thief-{number}-{place}"
                stolen = lab.attack(server, f"victim-{number}", account, attack, pools["pool"], self.rows, seed)
                record[thief] = metrics.agreement(stolen.model.predict(x).argmax(1), truth.argmax(1)).rate
                record["money"] = stolen.money
            yield record

    def _serve(self, lab: Lab, victim: Network, pools: Mapping[str, Pool], seed: int) -> Server:
        """Serves the victim behind each defence, with the models that some of them need."""
        made = lab.parties.folder / f"companions-{seed}"
        family = NETWORKS[self.family]()
        wrong = misinforming(family, pools["victim"], Training(), seed=seed + 1000)
        surrogate = Network.untrained(family, victim.card(), seed=seed + 2000)
        for name, network in (("WRONG", wrong), ("SURROGATE", surrogate)):
            folder.save(network, made / name)
        layers = [
            text.replace("WRONG", f"{made}/WRONG").replace("SURROGATE", f"{made}/SURROGATE")
            for text, *_ in LAYERS.values()
        ]
        return lab.serve(
            f"victims-{seed}", {f"victim-{number}": (victim, text) for number, text in enumerate(layers)}
        )

    def _told(self, server: Server, model: str, account: str, x: Array) -> Answer:
        """Returns what a customer is told."""
        endpoint = Endpoint(server.url, model=model, key=server.account(account, "client"), client=server.client)
        size = endpoint.card.max_rows
        return Answer.join([endpoint(x[start : start + size]) for start in range(0, len(x), size)])


def _joined(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Joins the seeds: mean and 95 % interval; a seed alone has no interval."""
    rows = []
    for name in LAYERS:
        seeds = [record for record in found if record["defence"] == name]
        row: dict[str, Any] = {"defence": name, "money": seeds[0]["money"]}
        for entry in ("l1", "accuracy", "bare accuracy", *THIEVES):
            values = [record[entry] for record in seeds]
            row[entry] = {"values": values, "mean": float(np.mean(values))}
            if len(values) > 1 and entry != "l1":
                row[entry]["interval"] = metrics.over_seeds(values)[1:]
        rows.append(row)
    return rows


def table(results: Mapping[str, Any]) -> str:
    """Formats results: a line for each defence, a column for each thief."""
    head = ["defence", "l1", "accuracy", *THIEVES]
    lines = [head]
    for row in results["defences"]:
        cells = [row["defence"], f"{row['l1']['mean']:.2f}", f"{100 * row['accuracy']['mean']:.1f}"]
        for thief in THIEVES:
            low, high = row[thief].get("interval", (row[thief]["mean"],) * 2)
            cells.append(f"{100 * row[thief]['mean']:.1f} ± {50 * (high - low):.1f}")
        lines.append(cells)
    out = ["| " + " | ".join(line) + " |" for line in lines]
    null = f"True labels of as many rows, without the API: {100 * np.mean(results['null']):.1f}."
    return "\n".join([out[0], "|" + "---|" * len(head), *out[1:], "", null])
