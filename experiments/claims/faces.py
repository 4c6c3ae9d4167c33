"""E10: what model inversion makes of a class, and whether others recognise it.

Source: Fredrikson, Jha, Ristenpart, "Model Inversion Attacks that Exploit Confidence Information and Basic
Countermeasures", CCS 2015, section 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from tqdm import tqdm

from attacker.extraction.knockoff import Knockoff
from attacker.inversion.evolved import Evolved
from attacker.inversion.inversion import Inversion
from attacker.inversion.mi_face import MiFace
from experiments.claims.claim import Finding, Findings, over_seeds
from experiments.lab import Lab
from experiments.parties import Server
from wire import Array
from wire.fits import uniform
from zoo import folder
from zoo.data import Pool
from zoo.families import Family
from zoo.families.cnn import Cnn
from zoo.families.logistic import Softmax
from zoo.families.mlp import Mlp
from zoo.network import Network
from zoo.training import Training

VICTIMS: Mapping[str, Family] = {"softmax": Softmax(), "mlp": Mlp()}
PUBLISHED = "95 %: skilled workers pick the face out of a line-up (AT&T faces)"


@dataclass(frozen=True)
class E10:
    """Rows made by inversion, beside the class's mean, a random row, and the nearest row of the training set.

    Attributes:
        data: The data set, of images.
        rows: Rows that train a victim.
        epochs: Passes of a victim over its rows.
        budget: Rows that steal the surrogate.
        attack: The attack by confidences; the one through a surrogate has the same settings.
        generations: Generations, at most, of the evolution within a prior of public rows.
    """

    ID: ClassVar[str] = "E10"
    SAYS: ClassVar[str] = "The confidences of a class give back an image of it that is recognised"
    SOURCE: ClassVar[str] = "Fredrikson et al., CCS 2015, section 5"

    data: str = "mnist"
    rows: int = 5000
    epochs: int = 20
    budget: int = 2000
    attack: MiFace = field(default_factory=MiFace)
    generations: int = 30

    def run(self, lab: Lab) -> Findings:
        """Inverts each class of each victim over HTTP; see :class:`~experiments.claims.claim.Claim`."""
        found: dict[tuple[str, str], dict[str, dict[int, float | None]]] = {}
        victims, pictures = {}, {}
        for seed in lab.seeds:
            held = lab.roles(self.data, seed)
            own = held["victim"].take(slice(self.rows))
            judge = lab.train(held["control"], seed, family=Cnn(), label="judge")
            models = {
                name: lab.train(own, seed, family=family, training=Training(self.epochs), label=name)
                for name, family in VICTIMS.items()
            }
            public = lab.parties.folder / f"public-{seed}.npz"
            replace(held["pool"], y=None).save(public)
            evolved = Evolved(public, generations=self.generations)
            server = lab.serve(f"victims-{seed}", {name: (model, "") for name, model in models.items()})
            for name, model in models.items():
                copies = lab.parties.folder / f"copy-{name}-{seed}"
                thief = Knockoff(family=name, epochs=self.epochs)
                stolen = lab.attack(server, name, f"thief-{name}", thief, held["pool"], self.budget, seed)
                folder.save(stolen.model, copies)
                made = {
                    how: self._inverted(lab, server, name, how, attack, own, seed)
                    for how, attack in (
                        ("confidences", self.attack),
                        ("surrogate", MiFace(**{**vars(self.attack), "surrogate": copies})),
                        ("prior", evolved),
                    )
                }
                made["mean of the class"] = (_means(own), 0)
                made["random"] = (uniform(model.card(), model.classes, np.random.default_rng([seed, 4])), 0)
                for how, (x, spent) in made.items():
                    billed = spent + self.budget * (how == "surrogate")
                    for what, value in self._measured(x, billed, model, judge, own).items():
                        found.setdefault((name, how), {}).setdefault(what, {})[seed] = value
                if seed == lab.seeds[0]:
                    del made["random"]
                    pictures[name] = {how: _as_bytes(x) for how, (x, _) in made.items()}
                    for how in ("confidences", "prior"):
                        pictures[name][f"nearest in training to {how}"] = _as_bytes(_nearest(made[how][0], own))
                victims[f"{name}-{seed}"] = lab.about(model, self.data, len(own), held["evaluation"])
        return Findings(
            tuple(row for key, measured in found.items() for row in self._rows(*key, measured)),
            {},
            victims,
            (
                "The judge is a CNN, trained on other rows; on test rows it is right about as often as a victim.",
                "The prior is an autoencoder of the attacker's pool, of the victim's kind; no label is used.",
                "Distances are root mean squares of a pixel, from 0 to 1, averaged over classes.",
            ),
            {"pictures": pictures},
        )

    def _inverted(
        self, lab: Lab, server: Server, name: str, how: str, attack: Inversion, own: Pool, seed: int
    ) -> tuple[Array, int]:
        """Returns a row of each class, ``(k, *input_shape)``, and the rows billed."""
        made, spent = [], 0
        for label in tqdm(range(len(own.class_names)), desc=f"{name}, {how}", unit="class", leave=False):
            oracle = lab.oracle(server, name, f"{how}-{name}-{label}")
            made.append(attack.invert(oracle, label, np.random.default_rng([seed, label])))
            spent += oracle.spent
        return np.stack(made), spent

    def _measured(self, x: Array, billed: int, victim: Network, judge: Network, own: Pool) -> dict[str, float]:
        labels = np.arange(len(x))
        return {
            "victim's confidence": float(victim.predict(x)[labels, labels].mean()),
            "recognised by the judge": float((judge.predict(x).argmax(axis=1) == labels).mean()),
            "distance to the class's mean": _distance(x, _means(own)),
            "distance to the nearest training image": _distance(x, _nearest(x, own)),
            "rows billed": float(billed),
        }

    def _rows(self, name: str, how: str, measured: Mapping[str, Mapping[int, float | None]]) -> list[Finding]:
        setting = f"{self.data}, victim {name}, {self.rows:,} rows; row by {how}"
        real = "mean of the class and random row: below"
        return [
            over_seeds(
                what,
                setting,
                PUBLISHED
                if (what, how, name) == ("recognised by the judge", "confidences", "softmax")
                else "none",
                values,
                baseline=real,
                unit="share" if what in ("victim's confidence", "recognised by the judge") else "",
            )
            for what, values in measured.items()
        ]


def _means(pool: Pool) -> Array:
    """Returns the mean row of each class, ``(k, *input_shape)``."""
    assert pool.y is not None
    return np.stack([pool.x[pool.y == label].mean(axis=0) for label in range(len(pool.class_names))])


def _nearest(x: Array, pool: Pool) -> Array:
    """Returns the row of each class, in the order of the classes, that is nearest to the row made for it."""
    assert pool.y is not None
    nearest = []
    for label, row in enumerate(x):
        of = pool.x[pool.y == label]
        nearest.append(of[np.square(of - row).reshape(len(of), -1).sum(axis=1).argmin()])
    return np.stack(nearest)


def _distance(x: Array, others: Array) -> float:
    return float(np.sqrt(np.square(x - others).reshape(len(x), -1).mean(axis=1)).mean())


def _as_bytes(x: Array) -> list[list[int]]:
    """Returns images as bytes, a list for each class."""
    flat: list[list[int]] = (x.reshape(len(x), -1) * 255).round().astype(int).tolist()
    return flat
