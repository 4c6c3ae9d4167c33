"""Agreement of each extraction attack by rows and by money, for each way of answering."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from attacker import EXTRACTION
from attacker.asking import NotApplicable
from attacker.extraction.active_thief import ActiveThief
from attacker.extraction.copycat import Copycat
from attacker.extraction.equation_solving import EquationSolving
from attacker.extraction.extraction import Extraction
from attacker.extraction.informed import Informed
from attacker.extraction.jbda import Jbda
from attacker.extraction.knockoff import Knockoff
from attacker.extraction.line_search import LineSearch
from attacker.extraction.lowd_meek import LowdMeek
from attacker.extraction.path_finding import PathFinding
from attacker.extraction.retraining import Retraining
from attacker.extraction.t_rnd import TRnd
from cli.money import in_currency
from experiments import metrics
from experiments.claims import streams
from experiments.header import header
from experiments.lab import PRICES, Lab
from experiments.parties import Parties
from wire import BadInput, WireError
from wire.fits import uniform
from zoo.data import Pool
from zoo.families import FAMILIES, Family
from zoo.families.logistic import Logistic
from zoo.families.trees import Tree
from zoo.model import Model
from zoo.recipe import LONG
from zoo.training import Training

ANSWERS: Mapping[str, str] = {
    "full vector": "",
    "top-1": '{ type = "top_k", k = 1 }',
    "labels": '{ type = "label_only" }',
    "3 digits": '{ type = "rounding", digits = 3 }',
    "2 digits": '{ type = "rounding", digits = 2 }',
    "1 digit": '{ type = "rounding", digits = 1 }',
    "noise": '{ type = "gaussian_noise", sigma = 0.1 }',
}
"""The victim's defences, in TOML."""

SPARE = ("unseen", "shadow", "control", "reference", "evaluation")  # roles that train neither victim nor thief
OWN, FOREIGN, RANDOM, NONE = "own", "foreign", "random", "none"
NULL = "true labels, no API"
UNASKED = {"jbda": "jbda, rows labelled as their parents", "t-rnd": "t-rnd, rows labelled as their parents"}


class Way(NamedTuple):
    """A method in one setting.

    Attributes:
        method: Its registered name, :data:`NULL`, or one of :data:`UNASKED`, nulls that query seeds alone.
        victim: The victim that it steals from.
        pool: Whose distribution the thief's rows have; random rows are a null, uniform in each feature.
        architecture: The surrogate's family.
        attack: Makes the attack for a number of rows; None for the null.
    """

    method: str
    victim: str
    pool: str
    architecture: str
    attack: Callable[[int], Extraction] | None


@dataclass(frozen=True)
class Thefts:
    """Agreement of surrogates with their victims, by method, answer and rows.

    Attributes:
        images: Data set of the image victims.
        foreign: Data set of the foreign pool.
        family: Family of the image victims, and of surrogates of the same architecture.
        other_family: Family of surrogates of another architecture.
        vectors: Data set of the softmax victims.
        table: Data set of two classes, of the logistic and tree victims.
        rows: Most rows of a theft.
        seeds: Number of seeds.
        methods: The methods to run; all if none is named.
        answers: The ways of answering; all if none is named.
    """

    images: str = "fashion_mnist"
    foreign: str = "mnist"
    family: str = "mlp"
    other_family: str = "cnn"
    vectors: str = "digits"
    table: str = "breast_cancer"
    rows: tuple[int, ...] = (250, 1000)
    seeds: int = 5
    methods: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        unknown = sorted(set(self.methods) - {way.method for way in self.ways()})
        if set(self.answers) - set(ANSWERS):
            raise BadInput(f"answers {', '.join(self.answers)}; expected some of {', '.join(ANSWERS)}")
        if unknown or self.seeds < 2 or not self.rows or min(self.rows) < 50:
            raise BadInput(
                f"{self}: expected at least 2 seeds and 50 rows, and methods of "
                f"{', '.join(sorted({way.method for way in self.ways()}))}"
            )

    def ways(self) -> Iterator[Way]:
        """Yields every method with its settings."""
        own, other = self.family, self.other_family
        for victim, family in (("images", own), ("vectors", "softmax"), ("table", "logistic")):
            yield Way(NULL, victim, OWN, family, None)  # first, so that a run which is cut short has it
        for pool, family in ((OWN, own), (OWN, other), (FOREIGN, own), (FOREIGN, other)):
            yield Way("knockoff", "images", pool, family, lambda n, family=family: Knockoff(family, epochs=20))  # type: ignore[misc]
        yield Way("knockoff", "images", RANDOM, own, lambda n: Knockoff(own, epochs=20))
        for pool in (OWN, FOREIGN):
            yield Way("copycat", "images", pool, own, lambda n: Copycat(own, epochs=20))
        yield Way("active-thief", "images", OWN, own, lambda n: _active(n, own))
        yield Way("jbda", "images", OWN, own, lambda n: Jbda(_seeds(n), 6, family=own, epochs=20))
        yield Way(
            UNASKED["jbda"], "images", OWN, own, lambda n: _unasked(Jbda(_seeds(n), 4, family=own, epochs=20))
        )
        yield Way("t-rnd", "images", OWN, own, lambda n: TRnd(_seeds(n), 6, family=own, **_SEARCHED))
        yield Way(
            UNASKED["t-rnd"], "images", OWN, own, lambda n: _unasked(TRnd(_seeds(n), 4, family=own, **_SEARCHED))
        )
        yield Way("informed", "images", OWN, own, lambda n: Informed(expects="noise", family=own, epochs=20))
        yield Way("retraining", "images", NONE, own, lambda n: Retraining(n, 5, family=own))
        yield Way("line-search", "images", NONE, own, lambda n: LineSearch(n // 2, lines=n, family=own))
        yield Way("equation-solving", "vectors", NONE, "softmax", lambda n: EquationSolving(ratio=n / 650))
        yield Way("retraining", "vectors", NONE, "softmax", lambda n: Retraining(n, 5, family="softmax"))
        yield Way("lowd-meek", "table", NONE, "logistic", lambda n: LowdMeek(points=n // 4))
        yield Way("path-finding", "tree", NONE, "tree", lambda n: PathFinding())

    def victims(self) -> Mapping[str, tuple[str, Family]]:
        """Returns the data set and the family of each victim."""
        return {
            "vectors": (self.vectors, FAMILIES["softmax"]()),
            "table": (self.table, Logistic()),
            "tree": (self.table, Tree(confidence="laplace")),
            "images": (self.images, FAMILIES[self.family]()),
        }

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
            write: Is called with what was found so far, after each method.
        """
        start, head = time.perf_counter(), header(dataclasses.asdict(self), seeds=range(self.seeds))
        wanted = (*self.methods, *(UNASKED[name] for name in self.methods if name in UNASKED), NULL)
        ways = [way for way in self.ways() if not self.methods or way.method in wanted]
        known, found = set[str](), list[dict[str, Any]]()

        def results() -> dict[str, Any]:
            return {
                **head,
                "prices": {"per_row": PRICES[0], "per_request": PRICES[1]},
                "missing": [name for name in EXTRACTION if name not in known],
                "thefts": summarised(found),
                "seconds": round(time.perf_counter() - start, 1),
            }

        with Parties(out) as parties:
            lab = Lab(parties, cache, data, tuple(range(self.seeds)))
            for victim in self.victims():
                mine = [way for way in ways if way.victim == victim]
                if not any(way.attack is not None for way in mine):
                    continue
                robbed = _Robbed(self, lab, victim)
                for way in mine:
                    found += robbed.thefts(way)
                    known.add(way.method)
                    write(results())
        return results()


_SEARCHED: Mapping[str, Any] = {"lrs": (1e-3,), "epochs": (20,), "search_every": 0}


def _unasked(attack: Jbda | TRnd) -> Extraction:
    return dataclasses.replace(attack, answers="parent")


def _seeds(n: int) -> int:
    return max(10, n // 16)  # doubled four times


def _active(n: int, family: str) -> ActiveThief:
    return ActiveThief(n, 5, family=family, epochs=60, early_stopping=15)


class _Robbed:
    """One kind of victim, with each way of answering, for each seed."""

    def __init__(self, study: Thefts, lab: Lab, name: str) -> None:
        self.study, self.lab, self.name, self._accounts = study, lab, name, 0
        data, family = study.victims()[name]
        training = LONG if name == "table" else Training()
        self.pools = {seed: lab.roles(data, seed) for seed in lab.seeds}
        self.victims = {
            seed: lab.train(pools["victim"], seed, family=family, training=training, label=name)
            for seed, pools in self.pools.items()
        }
        served = {
            f"{seed}-{number}": (victim, layers)
            for seed, victim in self.victims.items()
            for number, (name, layers) in enumerate(ANSWERS.items())
            if name in (study.answers or ANSWERS)
        }
        self.server = lab.serve(name, served)

    def thefts(self, way: Way) -> Iterator[dict[str, Any]]:
        """Yields a record of each theft."""
        answers = list(ANSWERS)
        asked = [number for number, name in enumerate(answers) if name in (self.study.answers or ANSWERS)]
        runs = [
            (n, number, seed)
            for n in self.study.rows
            for number in (asked if way.attack is not None else asked[:1])
            for seed in self.lab.seeds
        ]
        label = f"{self.name}: {way.method}, {way.pool} pool, {way.architecture}"
        for n, number, seed in tqdm(runs, desc=label, unit="theft", dynamic_ncols=True):
            self._accounts += 1
            record: dict[str, Any] = {**way._asdict(), "rows": n, "answer": answers[number], "seed": seed}
            del record["attack"]
            try:
                record |= self._theft(way, n, f"{seed}-{number}", f"thief-{self._accounts}", seed)
            except (NotApplicable, BadInput, WireError) as why:
                record |= {"agreement": None, "why": str(why)}
            yield record

    def _theft(self, way: Way, n: int, model: str, account: str, seed: int) -> dict[str, Any]:
        pools, victim = self.pools[seed], self.victims[seed]
        pool = pools["pool"]
        if way.pool == FOREIGN:
            pool = self._foreign(seed)
        elif way.pool == RANDOM:
            drawn = uniform(victim.card(), n, np.random.default_rng([seed, 3]))
            pool = dataclasses.replace(pool.take(slice(0)), x=drawn, y=None)
        if way.attack is None:
            labelled = pool.take(slice(n))
            training = Training(20) if way.victim == "images" else LONG
            copy: Model = self.lab.train(labelled, seed, family=way.architecture, training=training)
            bill = {"asked": 0, "requests": 0, "money": 0}
        else:
            attack = way.attack(n)
            stolen = self.lab.attack(self.server, model, account, attack, pool, n, seed)
            copy, bill = stolen.model, {"asked": len(stolen.x), "requests": stolen.requests, "money": stolen.money}
        x = np.concatenate([pools[role].x for role in SPARE])
        labels, truth = copy.predict(x).argmax(axis=1), victim.predict(x).argmax(axis=1)
        constant = float(np.bincount(truth).max() / len(truth))
        return {"agreement": metrics.agreement(labels, truth).rate, "constant": constant, **bill}

    def _foreign(self, seed: int) -> Pool:
        other = self.lab.roles(self.study.foreign, seed)["pool"]
        shape = self.pools[seed]["pool"].input_shape
        return dataclasses.replace(other, x=streams.grey(other.x, shape), y=None)


def summarised(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Joins the seeds of each theft: mean and 95 % interval of agreement, median of rows, requests and money."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    names = ("method", "victim", "pool", "architecture", "answer", "rows")
    for record in found:
        groups.setdefault(tuple(record[name] for name in names), []).append(record)
    joined = []
    for key, records in groups.items():
        told = [record for record in records if record["agreement"] is not None]
        row: dict[str, Any] = dict(zip(names, key, strict=True))
        if len(told) < len(records):
            row["why"] = next(record["why"] for record in records if record["agreement"] is None)
        if told:
            values = [record["agreement"] for record in told]
            row |= {"agreement": metrics.over_seeds(values), "values": values}
            row |= {name: float(np.median([r[name] for r in told])) for name in ("asked", "requests", "money")}
            row["constant"] = max(record["constant"] for record in told)
        joined.append(row)
    return joined


def table(results: Mapping[str, Any]) -> str:
    """Formats results: a line for each method, setting and number of rows, a column for each answer.

    The rows asked and the money are the greatest of the answers', as medians over seeds.
    """
    lines: dict[tuple[Any, ...], dict[str, Mapping[str, Any]]] = {}
    for row in results["thefts"]:
        key = (row["method"], row["victim"], row["pool"], row["architecture"], row["rows"])
        lines.setdefault(key, {})[row["answer"]] = row
    head = ["method", "victim", "pool", "surrogate", "rows", "asked", "money", *ANSWERS]
    cells = [head]
    for key, row in lines.items():
        told = [answer for answer in row.values() if "agreement" in answer]
        asked, money = (max((answer[name] for answer in told), default=0) for name in ("asked", "money"))
        cells.append(
            [*map(str, key), f"{asked:.0f}", in_currency(round(money)), *(_cell(row.get(a)) for a in ANSWERS)]
        )
    out = ["| " + " | ".join(line) + " |" for line in cells]
    out.insert(1, "|" + "---|" * len(head))
    if results["missing"]:
        out += ["", f"Not in this table: {', '.join(results['missing'])}."]
    return "\n".join(out)


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    if "agreement" not in row:
        return "–"
    mean, low, high = (100 * part for part in row["agreement"])
    return f"{mean:.1f} ± {(high - low) / 2:.1f}"


def read(path: Path) -> dict[str, Any]:
    """Reads results that were written before."""
    results: dict[str, Any] = json.loads(path.read_text())
    return results
