"""``python -m experiments suspects``: which suspects the twin test accuses, and how many of them falsely.

A lottery is a victim with its twins: M + 1 models of one recipe, with secret seeds and rows of their own. Several
lotteries are drawn, and some models of each take the victim's part in turn. Each innocent suspect is compared with
each victim. That gives false accusations for each victim, but no more independent trials than there are suspects:
a suspect's rank among the M + 1 models of one lottery is a permutation. So the intervals count suspects.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from experiments.header import header
from experiments.studies.evasions import Predict
from experiments.studies.front_end import FrontEnd, TableFrontEnd
from experiments.studies.logged import logged
from experiments.studies.lottery import Lottery, Seen, t_tail, unchanged
from experiments.studies.studied import Studied
from experiments.studies.suspects import Suspects, labels_of
from owner.twin_test import TwinTest
from owner.twins import study as studies
from wire import Array, BadInput
from zoo.data import Pool, load, roles
from zoo.families.mlp import Mlp
from zoo.training import Training

LEVELS = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5)


@dataclass(frozen=True)
class Lotteries:
    """The sizes of the study.

    Attributes:
        dataset: The victims' data set.
        foreign: Data set of other images of the same shape, for thefts by foreign rows.
        family: Family of the victims and most suspects.
        hidden: Widths of the hidden layers of an MLP.
        front_end: Whether the models stand on a fixed front end of images or of tables.
        rows: Number of rows that train a victim; 0 for all of its role.
        epochs: Passes of victims and twins over their rows.
        batch: Rows per step, for all models.
        lr: Learning rate, for all models.
        lotteries: Number of lotteries.
        models: Number of models in each, M + 1.
        victims: Number of models in each that are a victim in turn.
        independents: Number of innocent suspects, the same for all lotteries.
        controls: Number of the judge's models.
        thief_epochs: Passes of a thief over the answered rows: those of the attack.
        kinds: Kinds of suspects that derive from a victim.
        design: The queries besides the disputed rows: their copies, as in the twin test; mixtures of them; or
            mixtures that were moved to where the models disagree more.
        logged: Whether to compare thefts by own images also by the rows of the thief's account.
    """

    dataset: str = "fashion_mnist"
    foreign: str = "mnist"
    family: str = "mlp"
    hidden: tuple[int, ...] = (192,)
    front_end: bool = True
    rows: int = 0
    epochs: int = 12
    batch: int = 256
    lr: float = 1e-2
    lotteries: int = 8
    models: int = 32
    victims: int = 5
    independents: int = 400
    controls: int = 8
    thief_epochs: int = 30
    kinds: tuple[str, ...] = (
        *("itself", "fine-tuned", "pruned", "distilled"),
        *("labels, 1000", "labels, 2500", "labels, 4000", "labels, 5000", "labels, 10000", "labels, 20000"),
        *("logits, 1000", "logits, 2500", "logits, 4000", "logits, 5000", "logits, 10000", "logits, 20000"),
        *("foreign labels, 10000", "foreign logits, 10000"),
    )
    design: Literal["copies", "mixed", "climbed"] = "copies"
    logged: bool = False

    def run(
        self, seed: int, data: Path | None, cache: Path, out: Path | None, prepared: Path | None = None
    ) -> dict[str, Any]:
        """Runs the study; all models are kept, so that a run that was cut off goes on where it stopped.

        Args:
            seed: Seed of everything.
            data: Folder of data sets.
            cache: Folder of trained models.
            out: File for the results, written after each lottery.
            prepared: Folder of ``prove prepare``, whose victim and twins are the only lottery; None to draw them.
        """
        if prepared is not None:
            self = replace(self, lotteries=1, models=1 + studies.read(prepared).twins, front_end=False)
        results = {**header(asdict(self), seeds=[seed]), "innocent": [], "lotteries": []}
        held, foreign, seen = self._held(seed, data, cache)
        training = Training(self.epochs, self.batch, self.lr)
        made = Mlp(self.hidden) if self.family == "mlp" else None
        of = Suspects if prepared is None else partial(Studied, prepared=prepared)
        every = [
            of(held, foreign, self.family, seed + n, self.thief_epochs, cache, training, training, made)
            for n in range(self.lotteries)
        ]
        named = [every[0].varied(n) for n in tqdm(range(self.independents), desc="innocent", unit="model")]
        controls = [every[0].control(n).predict for n in range(self.controls)]
        results["innocent"], innocent = [name for name, _ in named], [model.predict for _, model in named]
        for suspects in every:
            one = Lottery.drawn(suspects, self.models, seen, self.design)
            results["lotteries"].append(self._played(one, suspects, innocent, controls))
            if out is not None:
                out.write_text(json.dumps(results) + "\n")
        return results

    def _held(self, seed: int, data: Path | None, cache: Path) -> tuple[dict[str, Pool], Array, Seen]:
        """Returns the roles' rows as the models take them, foreign rows, and the reference rows' original."""
        drawn = roles.draw(load(self.dataset, data, cache), seed)
        if self.rows:
            drawn["victim"] = drawn["victim"].take(slice(self.rows))
            drawn["unseen"] = drawn["unseen"].take(slice(self.rows // 4))
        far = any(kind.startswith("foreign") for kind in self.kinds)
        foreign = load(self.foreign, data, cache).pool.x if far else drawn["pool"].x
        if foreign.shape[1:] != drawn["pool"].input_shape:
            raise BadInput(f"{self.foreign} has rows of another shape than {self.dataset}")
        if not self.front_end:
            return drawn, foreign, Seen.unchanged(drawn["reference"])
        front: FrontEnd | TableFrontEnd
        if drawn["evaluation"].features:
            front, tensor = TableFrontEnd(drawn["evaluation"]), unchanged
        else:
            front = FrontEnd(drawn["evaluation"].x)
            tensor = front.tensor
        held = {role: Pool(front(pool.x), pool.y, pool.class_names) for role, pool in drawn.items()}
        return held, front(foreign), Seen(drawn["reference"], front, tensor)

    def _played(
        self, lottery: Lottery, suspects: Suspects, innocent: Sequence[Predict], controls: Sequence[Predict]
    ) -> dict[str, Any]:
        """Compares all suspects with the models of a lottery."""
        evaluation, victims = suspects.held["evaluation"], list(range(self.victims))
        known = lottery.z(controls)
        limits = [TwinTest().line(of) for of in known.T]
        everyone = lottery.z(innocent)
        thefts, mistaken = list[dict[str, Any]](), [0, 0, 0]
        given = [(kind, victim) for kind in self.kinds for victim in victims]
        for kind, victim in tqdm(given, desc="thefts", unit="theft", leave=False):
            model = suspects.answers(kind, 1 + victim)
            (z,) = lottery.z([model])
            thefts.append(
                {
                    "kind": kind,
                    "victim": victim,
                    "rank": 1 + int((z > z[victim]).sum()),
                    "z": round(float(z[victim]), 2),
                    "accuracy": _accuracy(model, evaluation),
                    "agreement": _agreement(model, lottery.models[victim].predict, evaluation.x),
                }
            )
            answer, _, count = kind.partition(", ")
            if self.logged and answer in ("labels", "logits") and count:
                x = suspects.asked(1 + victim, answer, int(count))
                thefts[-1]["logged"] = logged(lottery, x, victim, model, innocent, controls)
            others = lottery.z([model], without=victim)[0]
            for place, other in enumerate(n for n in range(self.models) if n != victim):
                if other in victims:
                    plain = others[place] == others.max() and t_tail(others[place], self.models - 2) <= 0.01
                    judged = plain and others[place] > limits[other]
                    mistaken = [a + b for a, b in zip(mistaken, (1, int(plain), int(judged)), strict=True)]
        p = t_tail(everyone, self.models - 1)
        return {
            "train": [_accuracy(lottery.models[n].predict, suspects.rows(1 + n)) for n in victims],
            "accuracy": [_accuracy(lottery.models[n].predict, evaluation) for n in victims],
            "chosen": lottery.chosen,
            "queries": len(lottery.x),
            "controls": np.round(known[:, victims], 2).tolist(),
            "z": np.round(everyone[:, victims], 2).tolist(),
            "ranks": (1 + (everyone[:, None, :] > everyone[:, victims, None]).sum(axis=2)).tolist(),
            "tail": [int((p <= level).sum()) for level in LEVELS],
            "of": p.size,
            "thefts": thefts,
            "innocent thefts": mistaken,
        }


def _accuracy(model: Predict, pool: Pool) -> float:
    assert pool.y is not None
    return round(float((labels_of(model, pool.x) == pool.y).mean()), 4)


def _agreement(model: Predict, other: Predict, x: Array) -> float:
    return round(float((labels_of(model, x) == labels_of(other, x)).mean()), 4)
