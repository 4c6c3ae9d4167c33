"""``python -m experiments suspects``: which suspects the twin test accuses, and how many of them falsely.

Each of the M + 1 models is the victim in turn, with the others as its twins. A theft of one model is a suspect of
its victim, and innocent of all others; then its victim is left out from the twins. For an innocent suspect exactly
one of the M + 1 victims is first by construction. So the false accusations are those of t and the judge's margin,
and the pairs of an innocent suspect and a victim are not independent trials.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments import metrics
from experiments.header import header
from experiments.studies.evasions import Predict
from experiments.studies.suspects import Suspects, labels_of
from owner.twin_test import TwinTest, ranking, similarity
from owner.twins.answers import Holdings
from owner.twins.twins import Twins
from wire import BadInput, Labels
from zoo.data import Pool, load, roles
from zoo.exact_interval import Interval, exact_interval
from zoo.network import Network


@dataclass(frozen=True)
class Accusations:
    """The sizes of the study.

    Attributes:
        dataset: The victims' data set.
        foreign: Data set of other images of the same shape.
        family: Family of the victims.
        models: Number of victims and twins, M + 1.
        thefts: Number of victims that are stolen.
        independents: Number of independent models.
        controls: Number of the judge's models.
        epochs: Passes of a thief over the answered rows.
        few: Rows of a small theft.
        kinds: Kinds of thefts.
    """

    dataset: str = "fashion_mnist"
    foreign: str = "mnist_digits"
    family: str = "cnn"
    models: int = 16
    thefts: int = 4
    independents: int = 12
    controls: int = 8
    epochs: int = 10
    few: int = 2500
    kinds: tuple[str, ...] = (
        *("itself", "fine-tuned", "pruned", "weight noise", "labels", "logits", "labels, few", "distilled"),
        *("other family", "twice stolen", "foreign images", "averaged", "adversarial"),
        *("20 % at random", "40 % at random", "noise of 0.1"),
    )

    def run(self, seed: int, data: Path | None, cache: Path, out: Path | None) -> dict[str, Any]:
        """Runs the study; writes the results after each suspect, so that nothing is lost."""
        results = {**header(asdict(self), seeds=[seed]), "suspects": []}
        held = roles.draw(load(self.dataset, data, cache), seed)
        foreign = load(self.foreign, data, cache).pool.x if "foreign images" in self.kinds else held["pool"].x
        if foreign.shape[1:] != held["pool"].input_shape:
            raise BadInput(f"{self.foreign} has rows of another shape than {self.dataset}")
        suspects = Suspects(held, foreign, self.family, seed, self.epochs, self.few, cache)
        test, panel = TwinTest(), Panel([suspects.victim(1 + number) for number in range(self.models)], held)
        results["victims"] = [_accuracy(model.predict, held) for model in panel.models]
        results["queries"], results["disputed"] = len(panel.x), len(panel.chosen)
        results["controls"] = [
            panel.similarities(suspects.control(number).predict, test.ridge) for number in range(self.controls)
        ]
        for name, number, model in self._suspects(suspects):
            labels = labels_of(model, held["evaluation"].x)
            results["suspects"].append(
                {
                    "name": name,
                    "victim": number,
                    "accuracy": _accuracy(model, held),
                    "agreement": None if number is None else panel.agreement(labels, number, held),
                    "similarities": panel.similarities(model, test.ridge, without=number),
                }
            )
            if out is not None:
                out.write_text(json.dumps(results, indent=1) + "\n")
        return results

    def _suspects(self, suspects: Suspects) -> Iterator[tuple[str, int | None, Predict]]:
        """Yields suspects: a name, the number of the victim they derive from (if any), and the model."""
        for number in range(self.independents):
            name, model = suspects.independent(number)
            yield f"independent: {name}", None, model.predict
        for kind in self.kinds:
            for number in range(self.models if kind == "itself" else self.thefts):
                yield kind, number, suspects.answers(kind, 1 + number)


class Panel:
    """All models, the queries about which they disagree most, and their answers."""

    def __init__(self, models: Sequence[Network], held: Mapping[str, Pool]) -> None:
        self.models, card = models, held["victim"].card()
        test = TwinTest()
        twins = Twins(
            [model.predict for model in models], 0, card, held["reference"], "", {"twin-test": test.committed()}
        )
        study = test.prepare(Holdings(twins, {}), np.random.default_rng(0))
        self.x, self.chosen, self.probs = study.x, study.answers.chosen, study.answers.probs

    def similarities(self, suspect: Predict, ridge: float, without: int | None = None) -> dict[str, list[float]]:
        """Returns T of all models, and of all but one if a suspect derives from that one."""
        labels = suspect(self.x).argmax(axis=1)
        found = {"all": similarity(self.probs, labels, ridge).tolist()}
        if without is not None:
            found["others"] = similarity(np.delete(self.probs, without, axis=0), labels, ridge).tolist()
        return found

    def agreement(self, labels: Labels, number: int, held: Mapping[str, Pool]) -> Interval:
        """Returns how often a suspect's labels of the evaluation rows are those of a model."""
        return metrics.agreement(labels, labels_of(self.models[number].predict, held["evaluation"].x))


def _accuracy(model: Predict, held: Mapping[str, Pool]) -> Interval:
    evaluation = held["evaluation"]
    assert evaluation.y is not None
    return metrics.agreement(labels_of(model, evaluation.x), evaluation.y)


def table(results: dict[str, Any]) -> str:
    """Formats the verdicts about each kind of suspect, and the false accusations."""
    alpha, margin = TwinTest().alpha, TwinTest().margin
    count = results["settings"]["models"]
    rows = [("suspect", "found", "with the judge's models", "first", "z mean (least)")]
    limits = _limits(results["controls"], count, margin)
    for kind in dict.fromkeys(one["name"] for one in results["suspects"] if one["victim"] is not None):
        group = [one for one in results["suspects"] if one["name"] == kind]
        found = [ranking(np.array(one["similarities"]["all"]), one["victim"]) for one in group]
        plain = [one.rank == 1 and one.p_t <= alpha for one in found]
        judged = [
            accused and one.z > limits[of["victim"]] for accused, one, of in zip(plain, found, group, strict=True)
        ]
        z = [one.z for one in found]
        n = len(group)
        rows.append(
            (
                kind,
                f"{sum(plain)}/{n}",
                f"{sum(judged)}/{n}",
                f"{sum(one.rank == 1 for one in found)}/{n}",
                f"{np.mean(z):.1f} ({min(z):.1f})",
            )
        )
    for name, group in (
        ("independent models", [one for one in results["suspects"] if one["victim"] is None]),
        ("thefts of another model", [one for one in results["suspects"] if one["victim"] is not None]),
    ):
        if group:
            rows.append((f"{name}, false accusations", *_false(group, count, limits, alpha), "", ""))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def _limits(controls: list[dict[str, list[float]]], count: int, margin: float) -> list[float]:
    """Returns for each victim the greatest z of a control plus the margin."""
    z = [[ranking(np.array(one["all"]), victim).z for one in controls] for victim in range(count)]
    return [max(of, default=-np.inf) + margin for of in z]


def _false(group: list[dict[str, Any]], count: int, limits: list[float], alpha: float) -> tuple[str, str]:
    """Counts accusations of innocent suspects: the plain ones, and those beyond the judge's limits."""
    plain, judged, by_victim = list[bool](), list[bool](), dict[int, list[bool]]()
    for one in group:
        own = one["victim"]
        t = np.array(one["similarities"]["all" if own is None else "others"])
        victims = [victim for victim in range(count) if victim != own]
        for place, victim in enumerate(victims):
            found = ranking(t, place)
            accused = found.rank == 1 and found.p_t <= alpha
            plain.append(accused)
            judged.append(accused and found.z > limits[victim])
            by_victim.setdefault(victim, []).append(judged[-1])
    worst = max(np.mean(of) for of in by_victim.values())
    return _share(plain), f"{_share(judged)}, worst victim {worst:.0%}"


def _share(accused: list[bool]) -> str:
    rate, low, high = exact_interval(sum(accused), len(accused))
    return f"{sum(accused)}/{len(accused)} = {rate:.2%} ({low:.2%} to {high:.2%})"
