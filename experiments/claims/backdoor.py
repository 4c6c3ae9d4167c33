"""C1 to C3: the backdoor watermark in marked models, in changed ones, in stolen ones, and in independent ones.

A victim is trained three times: without marks, with them from scratch, and without them first. The suspects are
the marked victim after each of the paper's ways to go on training, and after other changes; thefts through the
API; and independent models. The owner tests each of them (:class:`owner.backdoor.BackdoorTest`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, cast

import numpy as np
from tqdm import tqdm

from attacker.extraction.knockoff import Knockoff
from defenses.training.backdoor import Backdoor
from experiments.claims.claim import Finding, Findings, over_seeds, share
from experiments.claims.independent import ROWS, accuracy, independents, labels_of, telling
from experiments.claims.removal import pruned, quantised, shaken, tuned
from experiments.lab import Lab
from owner.backdoor import BackdoorTest, Marked, Study
from owner.trigger_key import TriggerKey
from wire import Array, Card, Labels
from zoo.data import Pool
from zoo.families.mlp import Mlp
from zoo.network import Network
from zoo.training import Training

Kind = Literal["abstract", "pattern", "pixel"]
PUBLISHED = {"plain": "93.42 %", "scratch": "93.81 %", "pretrained": "93.65 %"}
ANOTHER = "CIFAR-10, ResNet-18: "


@dataclass(frozen=True)
class C1:
    """Marks a victim, changes it, steals it, and has the owner accuse.

    Attributes:
        data: The data set.
        kinds: Kinds of triggers; suspects are made of victims with the first.
        rows: Rows that train a victim.
        hidden: Widths of its hidden layers; it is an MLP on pixels.
        training: The training of victims; one that goes on has as much again.
        tuning: The training by which a suspect goes on.
        tuning_rows: Its rows, of the attacker's.
        thieves: The attacks by name.
        budget: Most rows of each attack.
        independents: Independent models in all, the same for all victims.
        alike: How many of them are trained as the victim is, on other rows; the others are smaller.
        judges: How many more, of the same kind, the test compares the suspect with.
    """

    ID: ClassVar[str] = "C1"
    SAYS: ClassVar[str] = (
        "A backdoor watermark costs no accuracy (C1), survives fine-tuning of the last or of all layers (C2), and "
        "does not survive extraction (C3)"
    )
    SOURCE: ClassVar[str] = "Adi et al., USENIX Security 2018, table 1; Szyller et al., ACM MM 2021"

    data: str = "fashion_mnist"
    kinds: tuple[Kind, ...] = ("abstract", "pattern", "pixel")
    rows: int = 5000
    hidden: tuple[int, ...] = (128,)
    training: Training = field(default_factory=lambda: Training(epochs=24, batch=128, lr=4e-3))
    tuning: Training = field(default_factory=lambda: Training(8, 128, 1e-3, schedule="constant"))
    tuning_rows: int = 2500
    thieves: tuple[tuple[str, Knockoff], ...] = (("knockoff", Knockoff("mlp", epochs=10, batch=128, lr=2e-3)),)
    budget: int = 5000
    independents: int = 400
    alike: int = 8
    judges: int = 8

    def run(self, lab: Lab) -> Findings:
        """Marks, changes, steals and accuses; see :class:`~experiments.claims.claim.Claim`."""
        held = {seed: lab.roles(self.data, seed) for seed in lab.seeds}
        count, alike = self.judges + self.independents, self.judges + self.alike
        innocent = independents(
            lab, held[lab.seeds[0]]["control"], count, alike, self.hidden, self.training, self.rows
        )
        found: dict[str, dict[int, tuple[float, float]]] = defaultdict(dict)  # accuracy, trigger accuracy
        accused, victims, nulls = (
            defaultdict[str, dict[int, bool]](dict),
            dict[str, Any](),
            dict[Kind, Counter[str]](),
        )
        opened: dict[str, dict[int, float]] = defaultdict(dict)
        for seed in tqdm(lab.seeds, desc=self.ID, unit="seed"):
            pools = held[seed]
            private = pools["victim"].take(slice(self.rows))
            plain = self._trained(lab, private, seed)
            victims[f"victim-{seed}"] = lab.about(plain, self.data, self.rows, pools["evaluation"])
            for kind in self.kinds:
                key = TriggerKey.new(
                    Backdoor(kind), private, pools["reference"], np.random.default_rng(seed).bytes(32).hex()
                )
                x, y = key.triggers
                marked_rows = key.rule.mark.marked(private, x, y)
                scratch = self._trained(lab, marked_rows, seed)
                suspects: dict[str, Network] = {"plain": plain, "scratch": scratch}
                if kind == self.kinds[0]:
                    onward = lab.train(private, seed, family=Mlp(self.hidden), training=self.training)
                    suspects["pretrained"] = tuned(
                        onward, marked_rows, self.training, seed, last=False, fresh=False
                    )
                    suspects |= dict(self._changed(scratch, pools["pool"], seed))
                    suspects |= self._stolen(lab, scratch, pools["pool"], seed)
                told = [labels_of(model, x) for model in innocent]
                judges = {f"judge {n}": telling(x, t, plain.card()) for n, t in enumerate(told[: self.judges])}
                study = BackdoorTest().prepare(Marked(key, judges), np.random.default_rng(0))
                for name, model in suspects.items():
                    what = f"{kind}: {name}"
                    labels = labels_of(model, x)
                    found[what][seed] = accuracy(model, pools["evaluation"]), float((labels == y).mean())
                    accused[what][seed], opened[what][seed] = tested(study, x, labels)
                tests = [tested(study, x, labels)[0] for labels in told[self.judges :]]
                nulls.setdefault(kind, Counter()).update(
                    suspects=len(tests),
                    accused=sum(tests),
                    held=sum(int((t == y).sum()) for t in told[self.judges :]),
                )
        rows = [
            *self._accuracies(found, nulls, lab.seeds),
            *self._survivals(found, accused, opened),
            *self._nulls(nulls),
        ]
        more = {
            "suspects": {name: {str(s): list(pair) for s, pair in of.items()} for name, of in found.items()},
            "accused": {name: list(of.values()) for name, of in accused.items()},
            "opened": {name: list(of.values()) for name, of in opened.items()},
        }
        return Findings(tuple(rows), self._streams(), victims, self._notes(), more)

    def _trained(self, lab: Lab, pool: Pool, seed: int) -> Network:
        return lab.train(pool, seed, family=Mlp(self.hidden), training=self.training, label="victim")

    def _changed(self, marked: Network, pool: Pool, seed: int) -> Iterator[tuple[str, Network]]:
        """Yields what a thief of the weights makes of them; the first four are the paper's."""
        tuning = pool.take(slice(self.tuning_rows))
        for name, last, fresh in (
            ("fine-tuned, last layer", True, False),
            ("fine-tuned, all layers", False, False),
            ("retrained, last layer", True, True),
            ("retrained, all layers", False, True),
        ):
            yield name, tuned(marked, tuning, self.tuning, seed, last=last, fresh=fresh)
        yield "pruned by 60 %", pruned(marked, 0.6)
        yield "weight noise of 0.25", shaken(marked, 0.25, np.random.default_rng([seed, 5]))
        yield "8 bits a weight", quantised(marked, 8)
        yield "4 bits a weight", quantised(marked, 4)

    def _stolen(self, lab: Lab, marked: Network, pool: Pool, seed: int) -> dict[str, Network]:
        layers = {"open": "", "labels": '{ type = "label_only" }'}
        server = lab.serve(f"marked-{seed}", {name: (marked, layer) for name, layer in layers.items()})
        return {
            f"{attack}, {name}": lab.attack(server, name, f"{attack}-{name}", thief, pool, self.budget, seed).model
            for attack, thief in self.thieves
            for name in layers
        }

    def _accuracies(
        self,
        found: Mapping[str, Mapping[int, tuple[float, float]]],
        nulls: Mapping[Kind, Counter[str]],
        seeds: Sequence[int],
    ) -> Iterator[Finding]:
        setting = f"{self.data}, MLP, {self.rows:,} rows, 100 triggers"
        for what, of in found.items():
            kind, _, name = what.partition(": ")
            if name not in PUBLISHED:
                continue
            plain = {seed: found[f"{kind}: plain"][seed][0] for seed in of}
            cost = {seed: of[seed][0] - plain[seed] for seed in of}
            published = ANOTHER + PUBLISHED[name]
            yield over_seeds(
                f"test accuracy, {what}",
                setting,
                published,
                {s: pair[0] for s, pair in of.items()},
                baseline="none",
                unit="share",
            )
            if name != "plain":
                yield over_seeds(
                    f"its change by the mark, {what}", setting, "none", cost, baseline="0", unit="share"
                )
            chance = nulls[cast(Kind, kind)]
            held = chance["held"] / max(1, chance["suspects"]) / 100
            yield over_seeds(
                f"trigger accuracy, {what}",
                setting,
                ANOTHER + ("7.0 %" if name == "plain" else "100 %"),
                {s: pair[1] for s, pair in of.items()},
                baseline=f"independent models {held:.1%}",
                unit="share",
            )

    def _survivals(
        self,
        found: Mapping[str, Mapping[int, tuple[float, float]]],
        accused: Mapping[str, Mapping[int, bool]],
        opened: Mapping[str, Mapping[int, float]],
    ) -> Iterator[Finding]:
        setting = f"{self.data}, suspects made of the victim marked from scratch, {self.kinds[0]} triggers"
        for what, of in found.items():
            kind, _, name = what.partition(": ")
            if kind != self.kinds[0] or name == "plain":
                continue
            verdicts = list(accused[what].values())
            worth = np.median([pair[0] for pair in of.values()])
            after = np.median(list(opened[what].values()))
            published = "does not survive" if "knockoff" in name else "survives" if "tuned" in name else "none"
            yield over_seeds(
                f"trigger accuracy, {name}",
                setting,
                published,
                {s: pair[1] for s, pair in of.items()},
                baseline=f"accuracy {worth:.1%}; accused {sum(verdicts)} of {len(verdicts)} by {after:.0f} rows",
                unit="share",
            )

    def _nulls(self, nulls: Mapping[Kind, Counter[str]]) -> Iterator[Finding]:
        for kind, of in nulls.items():
            yield share(
                f"independent models accused, {kind}",
                f"{self.independents} models, each with the key of every seed",
                "none",
                of["accused"],
                of["suspects"],
                seeds=(),
                baseline="level 2^-64",
            )

    def _streams(self) -> dict[str, Any]:
        return {
            "triggers": "drawn from a secret of the seed; patterns and pixels change rows of the reference role",
            "tuning": f"the first {self.tuning_rows} rows of the pool role, with their true labels",
            "thieves": f"at most {self.budget} rows of the pool role, over HTTP; surrogates are MLPs",
            "independent": f"{self.alike} are trained as the victim is, on as many rows of the control role; the "
            f"others are smaller MLPs on {ROWS:,} rows; the draws overlap",
        }

    def _notes(self) -> tuple[str, ...]:
        return (
            "Published figures are of CIFAR-10 and ResNet-18, 100 abstract images, 60 epochs.",
            "The paper fine-tunes on the training data; here the thief has rows of his own.",
            "The trials of one independent model with three keys are not independent: count the models.",
        )


def tested(study: Study, x: Array, labels: Labels) -> tuple[bool, int]:
    """Returns whether the owner accuses a suspect with these labels of all triggers, and after how many."""
    suspect = telling(x, labels, Card("suspect", x.shape[1:], 0))
    evidence = BackdoorTest().accuse(suspect, study, np.random.default_rng(0))
    return evidence.verdict == "accused", evidence.suspect_queries
