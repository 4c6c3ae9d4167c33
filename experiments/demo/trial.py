"""One run of all parties: serve, steal, spy, prove; what each left is measured."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from cli.flags import attribute_notes
from experiments import metrics
from experiments.demo import attacks, ownership
from experiments.demo.place import NULL, Place
from experiments.demo.sizes import Protocol
from experiments.header import header
from experiments.parties import Parties
from zoo import folder
from zoo.data import Dataset, Pool, load, load_or_digits, roles
from zoo.families import FAMILIES
from zoo.network import Network
from zoo.recipe import Recipe, trained
from zoo.training import Training


@dataclass
class Trial:
    """A demo.

    Attributes:
        protocol: Its sizes.
        out: Folder of all that it leaves.
        state: Folder of what a later demo finds again: data sets and trained models.
        data: The user's data folder, if any.
        dataset: Name of a data set; by default Fashion-MNIST, or the digits that a dependency contains.
        seed: Seed of roles, training and attacks.
    """

    protocol: Protocol
    out: Path
    state: Path
    data: Path | None = None
    dataset: str | None = None
    seed: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self) -> dict[str, Any]:
        """Runs everything; returns what the report shows, and writes it to ``results.json``."""
        with self._timed("data"):
            dataset, missed = self._dataset()
            held = roles.draw(dataset, self.seed)
        if missed:
            tqdm.write(missed, file=sys.stderr)
        protocol = self.protocol.fitted(held)
        head = header(dataclasses.asdict(protocol), seeds=[self.seed])
        # The parties run in folders of their own, so paths must be absolute.
        place = Place(self.out.resolve(), self.state.resolve(), protocol, held, self.seed)
        place.clear()
        truth = place.hand_out()
        with Parties(place.out) as parties:
            with self._timed("victim and independent models"):
                victim = self._train(protocol, held["victim"], place.victim_seed, "victim")
                place.deploy(victim)
                for number in range(protocol.controls + protocol.independents):
                    self._independent(place, number)
            with self._timed("twins"):
                root = ownership.commit(place, parties)
            labels = victim.predict(held["evaluation"].x).argmax(axis=1)
            victims = place.serve_victim(parties)
            with self._timed("attacks"):
                attacks.attack(place, parties, victims)
            with self._timed("attacks, measured"):
                stolen, spied = attacks.stolen(place, labels), attacks.spied(place, truth)
                null = attacks.null(place, truth)
                baselines = attacks.baselines(place, parties, labels)
            with self._timed("ownership"):
                owned = ownership.prove(place, parties, victims)
            ledgers, alarms = victims.ledgers(), victims.alarms()
        for run in [*stolen, *spied]:
            run["ledger"] = ledgers[run["account"]]
        head["machine"]["device"] = torch.cuda.get_device_name() if victim.device.type == "cuda" else "cpu"
        results = {
            **head,
            "meanings": attribute_notes(Protocol),
            "data": {
                "name": dataset.name,
                "source": dataset.source,
                "missed": missed,
                "rows": {role: len(pool) for role, pool in held.items()},
            },
            "victim": {
                "family": protocol.family,
                "accuracy": metrics.agreement(labels, _truth(held["evaluation"])),
                "train_accuracy": metrics.agreement(
                    victim.predict(held["victim"].x).argmax(axis=1), _truth(held["victim"])
                ),
            },
            "policies": place.policies(),
            "extraction": stolen,
            "baselines": baselines,
            "membership": spied,
            "null": null,
            "alarms": alarms,
            "ownership": {"root": root, **owned},
            "seconds": self.seconds,
            "notes": [],
        }
        (place.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
        return results

    def _train(self, protocol: Protocol, pool: Pool, seed: int, label: str) -> Network:
        recipe = Recipe(FAMILIES[protocol.family](), Training(batch=protocol.batch), seed)
        return trained(recipe, pool, self.state / "cache", label=label).network()

    def _independent(self, place: Place, number: int) -> None:
        """Trains a model on rows of the control role; the rows of different models overlap."""
        rng, control, protocol = np.random.default_rng([self.seed, number]), place.held["control"], place.protocol
        rows = control.take(rng.permutation(len(control))[: protocol.independent_rows])
        network = self._train(protocol, rows, self.seed + 1 + number, f"independent {number}")
        to = number - protocol.controls
        party, name = ("suspects", f"independent-{to}") if to >= 0 else ("owner", f"controls/{number}")
        folder.save(network, place.party(party) / name)
        if number == 0:
            folder.save(network, place.party("victims") / NULL)

    def _dataset(self) -> tuple[Dataset, str | None]:
        """Loads the data set; where the default is not at hand, digits and a line that says so."""
        cache, data = self.state.resolve() / "cache", self.data and self.data.resolve()
        if self.dataset is None:
            return load_or_digits("fashion_mnist", data, cache)
        return load(self.dataset, data, cache), None

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = round(time.perf_counter() - start, 1)


def _truth(pool: Pool) -> Any:
    assert pool.y is not None
    return pool.y
