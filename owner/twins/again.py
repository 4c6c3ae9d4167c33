"""Makes models for a judge: those of a study again, and independent ones of his own."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from owner.twins import study as studies
from owner.twins import training
from owner.twins.plan import Plan
from owner.twins.twins import answering, untrained
from wire import BadInput, Oracle
from zoo import folder
from zoo.data.pool import Pool
from zoo.model import Model
from zoo.sweep import at_once

SHARE = 0.8  # of the judge's rows, which trains each of his models


@dataclass(frozen=True)
class Remade:
    """The models that a judge trains.

    Attributes:
        work: An empty folder for the models.
        control: The judge's own rows with labels, which the owner does not have; None to train no models on them.
        controls: Number of models to train on them.
        jobs: Number of processes, which train a model each.
    """

    work: Path
    control: Pool | None = None
    controls: int = 16
    jobs: int = 1

    def make(
        self, study: Path, plan: Plan, twins: Sequence[int], thefts: Sequence[int]
    ) -> tuple[dict[int, Model], dict[int, Model], dict[str, Oracle]]:
        """Trains models.

        Args:
            study: The owner's study.
            plan: Its plan.
            twins: Numbers of the models to train again.
            thefts: Numbers, from 0, of the simulated thefts to make again.

        Returns:
            Models and thefts by their numbers, and the judge's own models by name.

        Raises:
            BadInput: The judge's rows have no labels, or are all rows of the owner.
        """
        calls = {self._of("model", number): partial(_twin, study, number) for number in twins}
        calls |= {self._of("theft", number): partial(_theft, study, number) for number in thefts}
        if self.control is not None:
            rows = self._own_rows(study, plan)
            for number in range(self.controls):
                make = partial(_control, study, rows, secrets.randbits(63))
                calls[self._of("control", number)] = make
        made = [partial(make, path) for path, make in calls.items()]
        bar = tqdm(at_once(made, self.jobs), total=len(made), desc="models", unit="model")
        for _ in bar:
            pass
        found = {
            kind: {n: folder.load(self._of(kind, n)) for n in of}
            for kind, of in (("model", twins), ("theft", thefts))
        }
        own = range(self.controls if self.control is not None else 0)
        controls = dict[str, Oracle]()
        for number in own:
            model = folder.load(self._of("control", number))
            controls[f"control-{number}"] = Oracle(answering(model.predict), model.card())
        return found["model"], found["theft"], controls

    def _of(self, kind: str, number: int) -> Path:
        return self.work / f"{kind}-{number}"

    def _own_rows(self, study: Path, plan: Plan) -> Path:
        """Writes the judge's rows that the owner does not have, and returns their file."""
        control = self.control
        assert control is not None
        if control.y is None:
            raise BadInput("the judge's rows have no labels, so that no model can be trained on them")
        pools, path = studies.read_pools(study, plan), self.work / "control.npz"
        for owners in (studies.known_rows(pools), pools["reference"]):
            control = untrained(control, owners)
        control.save(path)
        return path


def _twin(study: Path, number: int, path: Path) -> None:
    plan = studies.read(study)
    folder.save(training.trained(plan, number, studies.read_pools(study, plan)), path)


def _theft(study: Path, number: int, path: Path) -> None:
    folder.save(training.stolen(study, studies.read(study), number + 1), path)


def _control(study: Path, rows: Path, seed: int, path: Path) -> None:
    """Trains a model by the victim's recipe on a random part of the judge's rows."""
    pool, recipe = Pool.load(rows), replace(studies.read(study).recipe(0), seed=seed)
    chosen = np.random.default_rng(seed).permutation(len(pool))[: max(1, int(SHARE * len(pool)))]
    folder.save(recipe.train(pool.take(chosen), label="control"), path)
