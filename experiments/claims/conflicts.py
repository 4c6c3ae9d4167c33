"""D: what protections do to one another: five schemes of ownership, with DP-SGD and adversarial training.

Source: Szyller and Asokan, "Conflicting Interactions Among Protection Mechanisms for Machine Learning Models",
AAAI 2023. Two relaxations, as there: milder protections (a larger epsilon, a smaller radius), and triggers that
are trained on apart, after each epoch, by plain steps. Added here: DP-SGD and adversarial training at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from scipy import stats
from tqdm import tqdm

from defenses.training.adversarial import Pgd
from defenses.training.backdoor import Backdoor
from defenses.training.radioactive import Radioactive
from defenses.watermarks.key import WatermarkKey
from experiments.claims.claim import Finding, Findings, over_seeds
from experiments.claims.independent import accuracy, labels_of
from experiments.claims.radioactive import marked_rows
from experiments.lab import Lab
from owner.dataset_inference.dataset_inference import DatasetInference
from owner.dataset_inference.embeddings import Images
from owner.ownership import prove
from owner.radioactive import losses
from owner.twin_test import TwinTest, dispute, ranking, similarity
from owner.twins.twins import answering
from wire import Answer, Array, Labels, Oracle
from zoo.data import Pool
from zoo.families.mlp import Mlp
from zoo.network import Network
from zoo.private import epsilon
from zoo.training import Training

Triggers = tuple[Array, Labels]
PUBLISHED = {  # test accuracy, then the metric of each protection
    "mnist": {
        "none": (".99",),
        "WM": (".99", ".97"),
        "RAD": (".98", ".284"),
        "DP": (".98",),
        "ADV": (".99", ".95"),
        "WM+DP": (".97", ".30-.36"),
        "WM+DP, triggers apart": ("none", "above .9"),
        "RAD+DP": (".97", ".091"),
        "WM+ADV": (".97", ".99", ".88"),
        "RAD+ADV": (".97", ".001", ".95"),
    },
    "fashion_mnist": {
        "none": (".91",),
        "WM": (".87", ".99"),
        "RAD": (".85-.88", ".19"),
        "DP": (".86",),
        "ADV": (".87", ".69"),
        "WM+DP": (".86", ".28-.30"),
        "WM+DP, triggers apart": ("none", "above .9"),
        "RAD+DP": (".84", ".11"),
        "WM+ADV": (".86", ".99", ".51"),
        "RAD+ADV": (".84", ".0007", ".69"),
    },
}
METRICS = {"WM": "trigger accuracy", "RAD": "loss difference", "ADV": "adversarial accuracy"}
MORE = {  # of schemes that mark no training row: published only where the paper has them
    "DI": "log10 p of dataset inference",
    "DAWN": "marks held by a copy",
    "TWIN": "z of a copy among twins",
    "NULL": "greatest z of 8 independent models",
    "THIEF DAWN": "marks held by a copy that is trained so",
    "THIEF TWIN": "z of a copy that is trained so",
}
INFERRED = "below -30"
MILD, APART = ", milder", ", triggers apart"  # the relaxations
COMBINED = {  # the trainings with which each mark is combined
    "": ("", "DP", "ADV", "DP+ADV", "DP" + MILD, "ADV" + MILD),
    "WM": ("", "DP", "ADV", "DP+ADV", "DP" + MILD, "ADV" + MILD, "DP" + APART, "ADV" + APART),
    "RAD": ("", "DP", "ADV", "DP+ADV", "DP" + MILD, "ADV" + MILD),
}
MARGIN = 0.1  # by which an accuracy may fall
INFERENCE = DatasetInference(fit_images=200, test_images=100, starts=3)
RATE = 0.02  # of DAWN


@dataclass(frozen=True)
class Conflicts:
    """Trains each protection alone, and marks together with DP-SGD and with adversarial training.

    Attributes:
        data: The data sets.
        rows: Rows that train a model.
        hidden: Widths of its hidden layers; it is an MLP on pixels.
        training: The training without privacy.
        private: The training by DP-SGD.
        milder: Noise of the milder one.
        delta: Probability with which its guarantee may fail.
        twins: Number of twins, M, of each training.
        pgd: The adversarial training, and the attack that measures it.
        nearer: Radius of the milder one.
        backdoor: The watermark.
        apart: Passes over the triggers after each epoch, where they are trained on apart.
        radioactive: The radioactive data.
        attacked: Evaluation rows that are attacked.
    """

    ID: ClassVar[str] = "D"
    SAYS: ClassVar[str] = (
        "Watermarks fall under DP-SGD, radioactive data under adversarial training; watermarks survive the latter"
    )
    SOURCE: ClassVar[str] = "Szyller and Asokan, AAAI 2023"

    data: tuple[str, ...] = ("fashion_mnist", "mnist")
    rows: int = 5000
    hidden: tuple[int, ...] = (64,)
    training: Training = field(default_factory=lambda: Training(epochs=24, batch=128, lr=4e-3))
    private: Training = field(default_factory=lambda: Training(epochs=20, batch=500, lr=1e-2, noise=2.0))
    milder: float = 0.5
    delta: float = 1e-4
    twins: int = 7
    pgd: Pgd = field(default_factory=Pgd)
    nearer: float = 0.1
    backdoor: Backdoor = field(default_factory=Backdoor)
    apart: int = 5
    radioactive: Radioactive = field(default_factory=lambda: Radioactive(radius=0.1))
    attacked: int = 1000

    def run(self, lab: Lab) -> Findings:
        """Trains and measures; see :class:`~experiments.claims.claim.Claim`."""
        *_, last = self.after_each_seed(lab)
        return last

    def after_each_seed(self, lab: Lab) -> Iterator[Findings]:
        """Yields what is found after each seed, of all data sets."""
        victims, spent = {}, epsilon(self.private, self.rows, self.delta)
        for data in self.data:
            lab.dataset(data)  # fails at once if one is missing
        found: dict[str, dict[str, dict[int, float]]] = {data: defaultdict(dict) for data in self.data}
        for seed in tqdm(lab.seeds, desc=self.ID, unit="seed"):
            for data in self.data:
                held = lab.roles(data, seed)
                for name, value in self._measured(lab, held, seed):
                    found[data][name][seed] = value
                plain = self._trained(held["victim"].take(slice(self.rows)), "", seed)
                victims[f"{data}-{seed}"] = lab.about(plain, data, self.rows, held["evaluation"])
            rows = [row for data in self.data for row in self._rows(data, found[data])]
            more = {"conflicts": {data: called(found[data]) for data in self.data}}
            yield Findings(tuple(rows), {}, dict(victims), self._notes(spent), more)

    def _measured(self, lab: Lab, held: Mapping[str, Pool], seed: int) -> Iterator[tuple[str, float]]:
        """Yields all metrics of a seed, by the names of the protections and of the metric."""
        rest = {role: held[role].take(slice(self.rows)) for role in ("victim", "shadow")}
        marker = lab.train(rest["shadow"], seed, family=Mlp(self.hidden), training=self.training)
        rng = np.random.default_rng([seed, 11])
        shape, classes = rest["victim"].input_shape, len(rest["victim"].class_names)
        seeds = [rng.bytes(32).hex() for _ in range(self.backdoor.triggers)]
        triggers = self.backdoor.all_triggers(seeds, shape, classes, None)
        pairs, moved = marked_rows(self.radioactive, rest["victim"], marker, rng.bytes(32).hex())
        marks = {"": rest["victim"], "WM": self.backdoor.marked(rest["victim"], *triggers), "RAD": moved}
        for name, pool in marks.items():
            for other in COMBINED[name]:
                rows = rest["victim"] if other.endswith(APART) else pool
                model = self._trained(rows, other, seed, triggers)
                what = "+".join(filter(None, (name, other))) or "none"
                for metric, value in self._metrics(model, held["evaluation"], triggers, pairs, seed):
                    yield f"{what}: {metric}", value
        for other in ("", "DP", "ADV", "DP+ADV"):
            for scheme, value in self._schemes(lab, held, other, seed):
                yield f"{'+'.join(filter(None, (scheme, other)))}: {MORE[scheme]}", value

    def _trained(self, pool: Pool, other: str, seed: int, triggers: Triggers | None = None) -> Network:
        """Trains a model; triggers count only where they are trained on apart."""
        network = Network.untrained(Mlp(self.hidden), pool.card(), seed=seed)
        how, comma, relaxed = other.partition(",")
        relaxed, parts = comma + relaxed, how.split("+")
        training = self.private if "DP" in parts else self.training
        if "DP" in parts and relaxed == MILD:
            training = replace(training, noise=self.milder)
        if how == "ADV":
            training = replace(training, epochs=max(1, training.epochs // 3))  # each step costs as much as eight
        pgd = replace(self.pgd, radius=self.nearer) if relaxed == MILD else self.pgd
        change = pgd.change(network) if "ADV" in parts else None
        x, y = pool.x, _labels(pool)
        if relaxed != APART:
            return network.fit(x, y, training, seed=seed, label=other or "plain", augment=change)
        assert triggers is not None
        once = replace(training, epochs=1, schedule="constant")
        plain = replace(self.training, epochs=self.apart, batch=25, schedule="constant")
        for epoch in range(training.epochs):
            network.fit(x, y, once, seed=1000 * seed + epoch, label=other, augment=change)
            network.fit(*triggers, plain, seed=epoch, label="triggers")
        return network

    def _metrics(
        self, model: Network, evaluation: Pool, triggers: Triggers, pairs: tuple[Pool, Pool], seed: int
    ) -> Iterator[tuple[str, float]]:
        """Yields test accuracy, trigger accuracy, loss difference and adversarial accuracy of a model."""
        yield "test accuracy", accuracy(model, evaluation)
        yield METRICS["WM"], float((labels_of(model, triggers[0]) == triggers[1]).mean())
        vanilla, marked = (losses(_answer(model, pool.x), _labels(pool)) for pool in pairs)
        yield METRICS["RAD"], float((vanilla - marked).mean())
        some = evaluation.take(slice(self.attacked))
        yield METRICS["ADV"], accuracy(model, replace(some, x=self.pgd.moved(model, some.x, seed)))

    def _schemes(self, lab: Lab, held: Mapping[str, Pool], other: str, seed: int) -> Iterator[tuple[str, float]]:
        """Yields the metrics of dataset inference, DAWN and the twin test, for a training of the victim."""
        known = _joined(held["victim"].take(slice(self.rows)), held["unseen"].take(slice(self.rows // 4)))
        draws = [np.random.default_rng([seed, 13, n]).permutation(len(known)) for n in range(1 + self.twins)]
        models = [self._trained(known.take(one[: self.rows]), other, 50 * seed + n) for n, one in enumerate(draws)]
        victim = models[0]
        images = Images(
            Oracle(answering(victim.predict), victim.card()),
            known.take(draws[0][: self.rows]),
            known.take(draws[0][self.rows :]),
        )
        evidence = prove(INFERENCE, images.victim, images, np.random.default_rng([seed, 17]))
        yield "DI", float(np.log10(max(evidence.p_value, 1e-300)))

        x, classes = held["pool"].x[: self.rows], victim.card().classes
        labels, key = labels_of(victim, x), WatermarkKey(np.random.default_rng([seed, 19]).bytes(32))
        points = [row.tobytes() for row in x]
        marks = np.array(key.marked(RATE, "row", points), np.int64)
        told = labels.copy()
        told[marks] = [key.false_label("row", points[i], int(labels[i]), classes) for i in marks]
        lied = replace(held["pool"].take(slice(self.rows)), y=told)
        honest = replace(lied, y=labels)

        reference = held["reference"].x
        disputed = dispute(np.stack([labels_of(model, reference) for model in models]), classes)
        asked = reference[np.argsort(-disputed, kind="stable")[: min(1000, np.count_nonzero(disputed))]]
        probs = np.stack([model.predict(asked) for model in models])

        def z(suspect: Network) -> float:
            return ranking(similarity(probs, labels_of(suspect, asked), TwinTest().ridge), 0).z

        for prefix, training in [("", ""), ("THIEF ", other)][: 2 if other else 1]:
            copies = [self._trained(pool, training, 900 + seed) for pool in (lied, honest)]
            yield f"{prefix}DAWN", float((labels_of(copies[0], x[marks]) == told[marks]).mean())
            yield f"{prefix}TWIN", z(copies[1])
        control = held["control"]
        some = [np.random.default_rng([7, n]).permutation(len(control))[: self.rows] for n in range(8)]
        strangers = [
            lab.train(control.take(rows), 700 + n, family=Mlp(self.hidden), training=self.training)
            for n, rows in enumerate(some)
        ]
        yield "NULL", max(z(stranger) for stranger in strangers)

    def _rows(self, data: str, found: dict[str, dict[int, float]]) -> Iterator[Finding]:
        setting = f"{data}, MLP, {self.rows:,} rows"
        for what, of in found.items():
            name, _, metric = what.partition(": ")
            parts = [part for part in name.partition(",")[0].split("+") if part in METRICS]
            wanted = ["test accuracy", *(METRICS[part] for part in parts)]
            published = PUBLISHED.get(data, {}).get(name, ())
            if metric in wanted:
                place, without = wanted.index(metric), list(found[f"none: {metric}"].values())
                told, base = published[place] if place < len(published) else "none", f"{np.mean(without):.3g}"
            elif metric in MORE.values():
                told = INFERRED if name.startswith("DI") else "none"
                root = name.partition("+")[0].removeprefix("THIEF ")
                base = f"{np.mean(list(found[f'{root}: {MORE[root]}'].values())):.3g}"
            else:
                continue
            shares = ("accuracy", "marks")
            yield over_seeds(
                what,
                setting,
                told,
                of,
                baseline=f"unprotected {base}",
                unit="share" if any(part in metric for part in shares) else "",
            )

    def _notes(self, spent: float) -> tuple[str, ...]:
        milder = epsilon(replace(self.private, noise=self.milder), self.rows, self.delta)
        return (
            f"DP-SGD: epsilon {spent:.2f} at delta {self.delta:g} for each row ({milder:.0f} milder); triggers "
            "are among the rows, unless trained on apart: then nothing protects them.",
            f"Milder adversarial training: radius {self.nearer}. DP+ADV: DP-SGD on the worst image near each row.",
            f"Called here: a conflict where the 95 % interval of the fall, over seeds by Student's t, lies above "
            f"{MARGIN:.0%} of an accuracy (the lower one of those alone), or that of a loss difference below 0; "
            "none where it lies on the other side; else undecided. The paper's thresholds could not be checked.",
            f"Twin test: {self.twins} twins of the victim's training, at most 1,000 rows, copies by labels. "
            "Copies that are trained so: the thief uses DP-SGD or adversarial training, as such a victim does.",
            f"Adversarial images within {self.pgd.radius} of a pixel, {self.pgd.steps} steps of {self.pgd.step} "
            "away from the model's own label; the paper's have 25 steps of 0.01.",
            "The published figures are of all rows of the data sets, CNNs and 100 epochs. Slides and paper differ "
            "for some; both are given.",
        )


def called(found: Mapping[str, Mapping[int, float]]) -> dict[str, str]:
    """Returns whether protections are in conflict, by pair or triple and metric.

    Args:
        found: The metrics over seeds, by name of the protections and of the metric.
    """
    verdicts = {}
    for what, of in found.items():
        name, _, metric = what.partition(": ")
        how, comma, relaxed = name.partition(",")
        parts = how.split("+")
        names = [part for part in parts if metric in ("test accuracy", METRICS.get(part))]
        if len(parts) == 1 or not names:
            continue
        alone = [found.get(f"{one}{comma}{relaxed}: {metric}", found[f"{one}: {metric}"]) for one in names]
        values = np.array(list(of.values()))
        if metric == METRICS["RAD"]:
            fall, most = -values, 0.0
        else:
            fall, most = np.min([list(one.values()) for one in alone], axis=0) - values, MARGIN
        half = np.inf
        if len(fall) > 1:
            half = stats.t.ppf(0.975, len(fall) - 1) * fall.std(ddof=1) / np.sqrt(len(fall))
        low, high = fall.mean() - half, fall.mean() + half
        verdicts[what] = "conflict" if low > most else "none" if high < most else "undecided"
    return verdicts


def _answer(model: Network, x: Array) -> Answer:
    probs = model.predict(x)
    return Answer(probs.argmax(axis=1), probs)


def _labels(pool: Pool) -> Labels:
    assert pool.y is not None
    return pool.y


def _joined(one: Pool, other: Pool) -> Pool:
    return replace(one, x=np.concatenate([one.x, other.x]), y=np.concatenate([_labels(one), _labels(other)]))
