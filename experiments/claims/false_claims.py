"""C8, C9 and C10: honest and false claims by every scheme, and what the counter-measures leave of the false ones.

Source: Liu, Zhang, Szyller, Ren, Asokan, "False Claims against Model Ownership Resolution", USENIX Security 2024:
nothing in a claim shows how its triggers were made, so the accuser commits to transferable adversarial examples,
in time. The schemes are in ``experiments/court``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from tqdm import tqdm

from experiments.claims.claim import Finding, Findings, over_seeds, share
from experiments.claims.independent import independents
from experiments.court.court import Court, Scheme, Sizes, Verdict
from experiments.court.fingerprints import COSTLY, FINGERPRINTS
from experiments.court.marks import MARKS
from experiments.lab import Lab
from experiments.studies.evasions import Predict
from zoo.data import Pool
from zoo.network import Network

CHEATS = (  # what is counted of a cheating accuser: a name, whose accusation, and which of its verdicts
    ("cheat, no counter-measure", "picked", "published"),
    ("cheat, the judge's own models", "picked", "judged"),
    ("cheat, all from a committed secret", "derived", "published"),
    ("cheat, committed secret and judge's models", "derived", "judged"),
    ("cheat, these and p times commitments", "derived", "counted"),
    ("cheat, these without wrong keys", "derived", "unkeyed"),
)
RULES = ("published", "compared", "judged", "trials")


@dataclass(frozen=True)
class C8:
    """Accuses thefts and independent models by every scheme, as an honest owner and as a cheating one.

    Attributes:
        data: The data set.
        sizes: The sizes of the court.
        independents: Independent models in all, the same for all victims.
        alike: How many of them are trained as a victim is; the others are smaller, and worse.
        judges: The judge's own models, trained as a victim is.
        costly: How many independent models are asked by a scheme of many queries: the first ones.
        schemes: Functions of ``experiments/court`` whose schemes are tried; all if there are none.
        costly_seeds: On how many seeds such schemes are tried: the first ones.
    """

    ID: ClassVar[str] = "C8"
    SAYS: ClassVar[str] = (
        "A malicious accuser makes false claims within the protocol of every scheme (C8); a commitment alone does "
        "not stop it (C10); conferrable examples tell stolen models from independent ones (C9)"
    )
    SOURCE: ClassVar[str] = "Liu et al., USENIX Security 2024; Lukas et al., ICLR 2021"

    data: str = "fashion_mnist"
    sizes: Sizes = field(default_factory=Sizes)
    independents: int = 392
    alike: int = 56
    judges: int = 16
    costly: int = 32
    costly_seeds: int = 1
    schemes: tuple[str, ...] = ()

    def run(self, lab: Lab) -> Findings:
        """Accuses; see :class:`~experiments.claims.claim.Claim`."""
        *_, last = self.after_each_seed(lab)
        return last

    def after_each_seed(self, lab: Lab) -> Iterator[Findings]:
        """Yields what is found after each seed, since a seed takes minutes."""
        held = lab.roles(self.data, 0)
        models = independents(
            lab,
            held["control"],
            self.judges + self.independents,
            self.judges + self.alike,
            self.sizes.hidden,
            self.sizes.training,
            self.sizes.rows,
        )
        judges, innocent = models[: self.judges], models[self.judges :]
        tables: dict[str, Table] = {}
        victims = {}
        for done, seed in enumerate(tqdm(lab.seeds, desc=self.ID, unit="seed"), start=1):
            court = Court(lab, self.sizes, held, seed, judges)
            victims[f"victim-{seed}"] = lab.about(court.victim, self.data, self.sizes.rows, held["evaluation"])
            builders = (*MARKS, *FINGERPRINTS, *(COSTLY if done <= self.costly_seeds else ()))
            builders = tuple(one for one in builders if not self.schemes or one.__name__ in self.schemes)
            for build in tqdm(builders, desc="schemes", unit="scheme", leave=False):
                scheme = build(court)
                some = innocent[: self.costly] if scheme.costly else innocent
                tables.setdefault(scheme.name, Table(self.alike)).add(scheme, seed, some, held["evaluation"])
            rows = [row for name, table in tables.items() for row in table.rows(name, self.data)]
            more = {"schemes": {name: table.plain() for name, table in tables.items()}}
            yield Findings(tuple(rows), {}, dict(victims), self._notes(), more)

    def _notes(self) -> tuple[str, ...]:
        return (
            "Published: false claims always succeed, against schemes with 50 to 100 triggers on CIFAR-10 and "
            "ImageNet. Radius 16/255 as there; step and number of steps are smaller.",
            "Picked by the cheat: transferable images and their labels (backdoor, DAWN, conferrable), images "
            "moved to where his models are sure (radioactive data, dataset inference), rows on which his models "
            "side with the victim (twin test), errors that his models share and poor models to compare with (own "
            "errors), the class that his models give to triggers (Honeytrace).",
            "Trials of one independent model with three victims are not independent: count the models. All seeds "
            "share the roles of seed 0, so no independent model was trained on a row of a victim.",
            "Dataset inference divides private from unseen rows at random already, so a secret changes nothing. "
            "By weights it is asked of suspects with weights; several copies behind one door have none.",
            "Radioactive data and Honeytrace are judged among wrong keys; their last row says what the published "
            "rule and the judge's models make of the cheat's best secret without wrong keys.",
        )


class Table:
    """The counts of one scheme."""

    def __init__(self, alike: int) -> None:
        """Counts nothing yet; the first independent models are trained as a victim is."""
        self._alike = alike
        self._power: dict[str, dict[int, tuple[bool, float]]] = defaultdict(dict)
        self._honest = {kind: [0] * len(RULES) for kind in ("alike", "smaller")}
        self._cheats = {name: 0 for name, *_ in CHEATS}
        self._trials = 0
        self._cost: dict[int, float] = {}
        self._about: dict[str, Any] = {}

    def add(self, scheme: Scheme, seed: int, innocent: Sequence[Network], evaluation: Pool) -> None:
        """Accuses all suspects of a seed, and all independent models."""
        self._about = {"source": scheme.source, "queries": scheme.queries, "shown": scheme.shown}
        self._cost[seed] = scheme.cost
        for kind, predict in scheme.suspects():
            self._power[kind][seed] = scheme.honest(predict).judged, _accuracy(predict, evaluation)
        for place, model in enumerate(tqdm(innocent, desc=scheme.name, unit="model", leave=False)):
            found: dict[str, Verdict] = {"picked": scheme.picked(model.predict)}
            honest = scheme.honest(model.predict)
            found["derived"] = honest if scheme.derived is scheme.honest else scheme.derived(model.predict)
            counts = self._honest["alike" if place < self._alike else "smaller"]
            counts[:] = [a + b for a, b in zip(counts, (*honest[:3], True), strict=True)]
            self._trials += 1
            for name, who, which in CHEATS:
                self._cheats[name] += bool(getattr(found[who], which))

    def rows(self, name: str, data: str) -> Iterator[Finding]:
        """Yields the table's rows."""
        seeds = tuple(self._cost)
        setting = f"{data}, {name} ({self._about['source']}), {self._about['queries']:,} queries, "
        setting += f"{self._about['shown']} private rows shown"
        yield over_seeds(
            f"{name}: change of the owner's accuracy", setting, "none", self._cost, baseline="0", unit="share"
        )
        for kind, of in self._power.items():
            worth = float(np.median([one[1] for one in of.values()]))
            hits = sum(one[0] for one in of.values())
            yield share(
                f"{name}: accused, {kind}",
                setting,
                "none",
                hits,
                len(of),
                seeds=of,
                baseline=f"accuracy {worth:.1%}",
            )
        for which, rule in enumerate(("by the published rule", "by the judge's models alone", "by both")):
            hits, trials = (sum(of[place] for of in self._honest.values()) for place in (which, -1))
            found = share(
                f"{name}: independent models accused {rule}",
                setting,
                "none",
                hits,
                trials,
                seeds=seeds,
                baseline="",
            )
            yield Finding(**{**vars(found), "baseline": validity(found)})
        for cheat, hits in self._cheats.items():
            yield share(
                f"{name}: {cheat}",
                setting,
                "succeeds" if cheat.endswith("no counter-measure") else "none",
                hits,
                self._trials,
                seeds=seeds,
                baseline="level 1 %",
            )

    def plain(self) -> dict[str, Any]:
        """Returns all that was counted, for the file."""
        power = {
            kind: {
                "accused": [one[0] for one in of.values()],
                "accuracy": [round(one[1], 4) for one in of.values()],
            }
            for kind, of in self._power.items()
        }
        honest = {kind: dict(zip(RULES, counts, strict=True)) for kind, counts in self._honest.items()}
        cost = [round(one, 4) for one in self._cost.values()]
        return {
            **self._about,
            "power": power,
            "independent": honest,
            "cheats": self._cheats,
            "trials": self._trials,
            "cost": cost,
        }


def validity(found: Finding) -> str:
    """Returns whether a rate of false accusations holds the level of 1 %, by its interval."""
    assert found.low is not None and found.high is not None
    if found.low > 0.01:
        return "invalid: above the level of 1 %"
    return "valid: below the level of 1 %" if found.high < 0.01 else "undecided: the interval holds 1 %"


def _accuracy(predict: Predict, pool: Pool) -> float:
    return float((predict(pool.x).argmax(axis=1) == pool.y).mean())
