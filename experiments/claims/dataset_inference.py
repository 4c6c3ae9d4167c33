"""C6 and C7: dataset inference as its authors ran it, with one image a row, and the twin test beneath.

Sources: Maini, Yaghini, Papernot, "Dataset Inference: Ownership Resolution in Machine Learning", ICLR 2021;
Szyller, Zhang, Liu, Asokan, "On the Robustness of Dataset Inference", TMLR 2023.

The victim memorises its rows, which favours dataset inference. Its private and unseen rows were divided at random,
so for an independent model there is no difference to find.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from experiments.claims.claim import Finding, Findings, over_seeds, share
from experiments.lab import Lab
from experiments.studies.lottery import Lottery, Seen, t_tail
from experiments.studies.suspects import Suspects
from owner.dataset_inference.as_published import ROWS, Inferred, infer
from owner.dataset_inference.dataset_inference import DatasetInference
from owner.dataset_inference.min_gd import min_gd
from wire import Answer, Array, Oracle
from zoo.network import Network
from zoo.training import Training

ALPHA = 0.01
WALK, GRADIENT = "Blind Walk", "MinGD"
PUBLISHED = next(iter(ROWS))
MEMORISED = Training(epochs=60, batch=128, lr=2e-3)
CONTROL = "trained on the comparison set"

FIGURES = {  # p for CIFAR-10 with MinGD and with the Blind Walk: tables 1 and 2 of the paper, by the notebooks
    "itself": ("1e-4", "1e-42"),
    "distilled": ("1e-4", "1e-5"),
    "other architecture": ("1e-4", "1e-10"),
    "foreign images": ("1e-2 (data-free)", "1e-2 (data-free)"),
    "fine-tuned": ("1e-5", "1e-27"),
    "labels": ("1e-3", "1e-4"),
    "logits": ("1e-3", "1e-4"),
    CONTROL: ("1.0", "0.675"),
}

Side = tuple[Array, Array]


class Tested(NamedTuple):
    """What all tests say of one suspect: dataset inference by features and rows, and p of the twin test."""

    inferred: dict[tuple[str, str], Inferred]
    twin_p: float
    twin_first: bool


@dataclass(frozen=True)
class Sizes:
    """The base of both claims.

    Attributes:
        data: The data set.
        foreign: Data set of other images of the same shape.
        family: Family of the victim.
        rows: Private rows of a victim, and as many unseen ones.
        training: The victim's training.
        models: Number of victim and twins together.
        images: Images of each side for the Blind Walk.
        white_images: Images of each side for MinGD; 0 leaves it out.
        independents: Independent models for each victim.
        kinds: Kinds of thefts and copies.
    """

    data: str = "fashion_mnist"
    foreign: str = "mnist_digits"
    family: str = "mlp"
    rows: int = 5000
    training: Training = MEMORISED
    models: int = 12
    images: int = 150
    white_images: int = 24
    independents: int = 1
    kinds: tuple[str, ...] = ()

    def tested(self, lab: Lab, seed: int) -> tuple[dict[str, Tested], dict[str, Network]]:
        """Trains a victim, its twins and all suspects, and tests them; returns what was found, and the models."""
        held = dict(lab.roles(self.data, seed))
        held |= {role: held[role].take(slice(self.rows)) for role in ("victim", "unseen")}
        foreign = lab.dataset(self.foreign).pool.x if "foreign images" in self.kinds else held["pool"].x
        source = Suspects(held, foreign, self.family, 1 + seed, 10, lab.cache, self.training)
        models = {kind: source.stolen(kind, 1) for kind in ("itself", *self.kinds)}
        models[CONTROL] = source.comparison(1)
        models |= {f"independent {n}": source.independent(n)[1] for n in range(self.independents)}
        lottery = Lottery.drawn(source, self.models, Seen.unchanged(held["reference"]))
        private, unseen, rng = source.rows(1), source.unseen(1), np.random.default_rng([seed, 7])
        features: dict[str, dict[str, Side]] = {WALK: {}, GRADIENT: {}}
        for name, model in tqdm(models.items(), desc=f"seed {seed}", unit="suspect", dynamic_ncols=True):
            images = private.take(slice(self.images)), unseen.take(slice(self.images))
            features[WALK][name] = DatasetInference().embed(_oracle(model), *images, rng)
            if self.white_images:
                n = slice(self.white_images)
                features[GRADIENT][name] = min_gd(model, private.x[n]), min_gd(model, unseen.x[n])
        found: dict[str, dict[tuple[str, str], Inferred]] = {name: {} for name in models}
        for feature, sides in features.items():
            for rows, to_rows in ROWS.items() if sides else ():
                for name, one in infer(sides["itself"], sides, to_rows, rng).items():
                    found[name][feature, rows] = one
        tested = {}
        for name, z in zip(models, lottery.z([model.predict for model in models.values()]), strict=True):
            tested[name] = Tested(found[name], float(t_tail(z[0], self.models - 1)), bool(z.argmax() == 0))
        return tested, models

    def about(self, lab: Lab, seed: int, models: Mapping[str, Network]) -> dict[str, object]:
        """Describes a victim, for the results."""
        evaluation = lab.roles(self.data, seed)["evaluation"]
        return lab.about(models["itself"], self.data, self.rows, evaluation)


def _oracle(model: Network) -> Oracle:
    def answer(x: Array) -> Answer:
        with torch.inference_mode():
            passes = torch.split(torch.from_numpy(x).to(model.device), 512)
            labels = torch.cat([model.module(rows).argmax(1) for rows in passes])
        return Answer(labels.cpu().numpy(), None)

    return Oracle(answer, replace(model.card(), model="suspect"))


@dataclass(frozen=True)
class C6(Sizes):
    """Dataset inference of a victim and its copies, beside a model of the same distribution."""

    ID: ClassVar[str] = "C6"
    SAYS: ClassVar[str] = (
        "Dataset inference recognises a victim and six kinds of thefts at 1 % with fewer than 60 private images "
        "and 30,000 queries"
    )
    SOURCE: ClassVar[str] = "Maini et al., ICLR 2021, tables 1 and 2"

    kinds: tuple[str, ...] = (
        "distilled",
        "other architecture",
        "foreign images",
        "fine-tuned",
        "labels",
        "logits",
    )

    def run(self, lab: Lab) -> Findings:
        """Tests each suspect of each seed's victim; see :class:`~experiments.claims.claim.Claim`."""
        trials = {seed: self.tested(lab, seed) for seed in lab.seeds}
        found = {seed: tested for seed, (tested, _) in trials.items()}
        rows = [
            row
            for name in ("itself", *self.kinds, CONTROL, "independent 0")
            for row in _readings(found, name, FIGURES.get(name, ("none", "none")), beside="independent 0")
        ]
        victims = {f"victim-{seed}": self.about(lab, seed, models) for seed, (_, models) in trials.items()}
        return Findings(tuple(rows), {}, victims, NOTES, {"effects": _effects(found)})


@dataclass(frozen=True)
class C7(Sizes):
    """Accusations of independent models, and a thief that trains adversarially."""

    ID: ClassVar[str] = "C7"
    SAYS: ClassVar[str] = (
        "Dataset inference accuses independent models of the same distribution, and adversarial training evades it"
    )
    SOURCE: ClassVar[str] = "Szyller et al., TMLR 2023"

    white_images: int = 0
    independents: int = 8
    kinds: tuple[str, ...] = ("labels", "adversarial")

    def run(self, lab: Lab) -> Findings:
        """Tests independent models and two thieves; see :class:`~experiments.claims.claim.Claim`."""
        trials = {seed: self.tested(lab, seed) for seed in lab.seeds}
        found = {seed: tested for seed, (tested, _) in trials.items()}
        rows = list(self._accused(found))
        for name in self.kinds:
            rows += _readings(found, name, ("none", "none"), beside="independent 0")
        victims = {
            f"{name}-{seed}": self.about(lab, seed, {"itself": models[name]})
            for name in ("itself", *self.kinds)
            for seed, (_, models) in trials.items()
        }
        return Findings(tuple(rows), {}, victims, NOTES, {"effects": _effects(found)})

    def _accused(self, found: Mapping[int, Mapping[str, Tested]]) -> Iterator[Finding]:
        """Counts accused independent models, by the reading."""
        names = [f"independent {n}" for n in range(self.independents)]
        accused: dict[str, list[bool]] = {}
        for tested in found.values():
            for one in map(tested.__getitem__, names):
                for (_, rows), of in one.inferred.items():
                    accused.setdefault(f"{rows}, harmonic mean of 100 draws of 10", []).append(
                        of.p_harmonic < ALPHA
                    )
                    accused.setdefault(f"{rows}, all held-out rows", []).append(of.p < ALPHA)
                    accused.setdefault(f"{rows}, one draw of 10", []).append(of.p_draws[0] < ALPHA)
                accused.setdefault("twin test, without a judge's models", []).append(
                    one.twin_first and one.twin_p <= ALPHA
                )
        setting = (
            f"independent models accused at 1 %: {self.data}, {self.family}, {WALK} of {self.images} images a side"
        )
        for reading, verdicts in accused.items():
            published = (
                "p 1e-12 for one model" if reading.startswith(PUBLISHED) and "harmonic" in reading else "none"
            )
            yield share(
                reading,
                setting,
                published,
                sum(verdicts),
                len(verdicts),
                seeds=tuple(found),
                baseline="1 % by the level",
            )


HARMONIC = f"{PUBLISHED}: p, harmonic mean of 100 draws of 10"  # the reading that the papers' tables have

NOTES = (
    "The published figures are of CIFAR-10 and WRN-28-10; these are of another data set. The victim has its own "
    "private rows, drawn at random from its owner's, and as many unseen ones.",
    "Labels and weights are taken in this process, not over HTTP: the suspects are asked millions of times. "
    "The thefts' answers, too.",
    "Distillation without data is stood in for by answers about images of another kind.",
    "Thefts of one seed share a victim, and independent models share its images: intervals over all of them are "
    "too narrow where the images, not the models, make the difference.",
)


def _readings(
    found: Mapping[int, Mapping[str, Tested]], name: str, published: tuple[str, str], *, beside: str
) -> Iterator[Finding]:
    """Returns the readings of a suspect over seeds, with the published p by MinGD and by the Blind Walk."""
    others = _values(found, beside)
    for (feature, reading), values in _values(found, name).items():
        yield over_seeds(
            f"{feature}, {reading}" if reading else feature,
            f"suspect: {name}",
            published[feature == WALK] if reading == HARMONIC else "none",
            values,
            baseline=f"{beside}: {np.median(list(others[feature, reading].values())):.2g}",
            unit="share" if reading.startswith("share") else "",
        )


def _values(found: Mapping[int, Mapping[str, Tested]], name: str) -> dict[tuple[str, str], dict[int, float]]:
    """Returns each reading of a suspect by feature and reading, for each seed."""
    values: dict[tuple[str, str], dict[int, float]] = {}
    for seed, tested in found.items():
        one = tested[name]
        for (feature, rows), of in one.inferred.items():
            readings = {
                f"{rows}: p, harmonic mean of 100 draws of 10": of.p_harmonic,
                f"share of draws with p < .01, {rows}": float(np.mean(np.array(of.p_draws) < ALPHA)),
                f"{rows}: p, all held-out rows": of.p,
            }
            for reading, value in readings.items():
                values.setdefault((feature, reading), {})[seed] = value
        values.setdefault(("twin test, p of t", ""), {})[seed] = one.twin_p
    return values


def _effects(found: Mapping[int, Mapping[str, Tested]]) -> dict[str, dict[str, dict[str, float]]]:
    """Returns the effects delta mu, by suspect, seed and reading."""
    return {
        name: {
            str(seed): {", ".join(reading): of.delta_mu for reading, of in tested[name].inferred.items()}
            for seed, tested in found.items()
        }
        for name in next(iter(found.values()))
    }
