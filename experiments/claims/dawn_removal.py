"""C4: DAWN's marks in stolen models, in changed ones, and in models that were not stolen.

Thieves steal from served victims, of which each marks at a rate of its own; the owner commits to the register,
opens each thief's marks and puts them to every suspect (:class:`owner.dawn.Dawn`), beside independent models. The
suspects answer in process, by label alone.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from statistics import median
from typing import Any, ClassVar, cast

import numpy as np
from pydantic import TypeAdapter
from tqdm import tqdm

from attacker.extraction.extraction import Extraction
from attacker.extraction.jbda import Jbda
from attacker.extraction.knockoff import Knockoff
from attacker.extraction.targets import targets
from defenses.watermarks.ledger import Opening
from experiments import metrics
from experiments.claims.claim import Finding, Findings, over_seeds, share
from experiments.claims.removal import noisy, pruned, shaken, shifted
from experiments.lab import Asked, Lab
from experiments.parties import Server
from owner.dawn import Dawn
from wire import Answer, Array, Labels, Oracle
from zoo.data import Pool
from zoo.families import Architecture
from zoo.network import Network
from zoo.training import Training

AS_STOLEN, JITTERED = "as stolen", "trained on shifted copies"

_PUBLISHED = {  # by the beginning of what was done
    "pruned by 25%": "100 % (artefact)",
    "pruned by 40%": "100 % (artefact)",
    "pruned by 50%": "100 % (artefact)",
    "pruned by 75%": "61.5 % (artefact)",
    "pruned by 90%": "7.7 % (artefact)",
    "asked with noise 0.25": "100 % (artefact)",
    "asked with noise 0.5": "99.4 % (artefact)",
    "asked with noise 0.9": "74.2 % (artefact)",
    "fine-tuned": "87.0 and 92.1 % (test_evalguard, CIFAR-10)",
    JITTERED: "removed (smooth retraining, Lukas et al. 2022)",
}

_Model = Callable[[Array], Labels]  # the labels of rows


@dataclass(frozen=True)
class Suspicion:
    """A suspect, and what a thief's marks say of it.

    Attributes:
        data: Name of the data set.
        seed: Seed of roles, victim and thief.
        rate: Share of the rows that the victim marks.
        thief: Whose marks.
        suspect: What was done to the stolen model, or which independent model it is.
        stolen: Whether the suspect comes of the theft.
        accuracy: Its test accuracy.
        asked: How many rows the thief asked about.
        marks: How many of them are marked.
        matches: How many marks hold in the suspect.
        p0: How likely a mark holds by chance, bounded by the independent models.
        independent: How many marks hold in each of them.
        tail: How likely a model that was not stolen has a mark error of at most the greatest that accuses.
        p_value: How likely it has one of at most the suspect's.
        verdict: The owner's.
        missing: How many more marks would be enough; None if no number would.
    """

    data: str
    seed: int
    rate: float
    thief: str
    suspect: str
    stolen: bool
    accuracy: float
    asked: int
    marks: int
    matches: int
    p0: float
    independent: tuple[int, ...]
    tail: float
    p_value: float
    verdict: str
    missing: int | None


@dataclass(frozen=True)
class Cost:
    """What marks cost a customer.

    Attributes:
        data: Name of the data set.
        seed: Seed of roles and victim.
        rate: Share of the rows that the victim marks.
        bare: Accuracy of the answers that the owner's plan is given.
        marked: That of a customer's.
        changed: Share of the customer's answers that are not the owner's.
    """

    data: str
    seed: int
    rate: float
    bare: float
    marked: float
    changed: float


@dataclass(frozen=True)
class C4:
    """Steals marked models, changes what was stolen, and has the owner accuse.

    Attributes:
        data: Data sets; the first for all seeds and rates, the others for the first seed at the last rate.
        rates: Rates of marks, rising; removal is tried at the last.
        thieves: The attacks by name.
        once: Those that steal at the last rate alone.
        budget: Rows that each asks about at most.
        independents: Independent models of each victim, by turns a CNN and an MLP.
        independent_rows: Rows that each is trained on, drawn from the control role.
        tuning_rows: Labelled rows that a stolen model is fine-tuned on.
        tuning: How it is.
        pruned: Shares of the weights that are set to zero, layer by layer.
        shaken: Noise on the weights, in their deviations.
        noisy: Noise on the rows that the suspect is asked about, the authors' eps.
        distilled_rows: Unmarked rows that the stolen model labels for a second one, trained as it was.
        copies: Shifted copies of each row on which Knockoff's surrogate is trained instead of the row.
        pixels: By how much they are shifted at most.
    """

    ID: ClassVar[str] = "C4"
    SAYS: ClassVar[str] = (
        "DAWN marks every surrogate stolen through the API: confidence of more than 1 - 2^-64 at a cost of "
        "0.03 to 0.5 % in accuracy"
    )
    SOURCE: ClassVar[str] = "Szyller, Atli, Marchal, Asokan, ACM MM 2021"

    data: tuple[str, ...] = ("fashion_mnist", "mnist")
    rates: tuple[float, ...] = (0.005, 0.01, 0.02)
    thieves: Mapping[str, Extraction] = field(
        default_factory=lambda: {"knockoff": Knockoff(), "jbda": Jbda(), "jbda-cnn": Jbda(family="cnn")}
    )
    once: tuple[str, ...] = ("jbda-cnn",)
    budget: int = 9600
    independents: int = 10
    independent_rows: int = 5000
    tuning_rows: tuple[int, ...] = (1000, 5000)
    tuning: Training = field(default_factory=lambda: Training(epochs=5, lr=1e-3, schedule="constant"))
    pruned: tuple[float, ...] = (0.25, 0.4, 0.5, 0.75, 0.9)
    shaken: tuple[float, ...] = (0.1, 0.25, 0.5)
    noisy: tuple[float, ...] = (0.25, 0.5, 0.9)
    distilled_rows: int = 5000
    copies: int = 3
    pixels: int = 2

    def run(self, lab: Lab) -> Findings:
        """Steals, changes and accuses; see :class:`~experiments.claims.claim.Claim`."""
        for name in self.data:
            lab.dataset(name)  # what is missing is missed at once
        cases = [(name, seed) for name in self.data for seed in lab.seeds[: None if name == self.data[0] else 1]]
        total = sum(len(self.thieves_at(rate)) for name, _ in cases for rate in self.rates_of(name))
        costs: list[Cost] = []
        suspicions: list[Suspicion] = []
        victims: dict[str, Any] = {}
        with tqdm(total=total, desc=self.ID, unit="theft", dynamic_ncols=True) as bar:
            for name, seed in cases:
                case = _Case(self, lab, name, seed, bar)
                victims[f"{name}, seed {seed}"] = lab.about(
                    case.victim, name, len(case.held["victim"]), case.held["evaluation"]
                )
                for rate in self.rates_of(name):
                    costs.append(case.cost(rate))
                    suspicions += case.suspicions(rate)
        return Findings(
            rows=tuple(_rows(self, costs, suspicions)),
            streams=self._streams(),
            victims=victims,
            notes=self._notes(suspicions),
            more={"costs": [asdict(cost) for cost in costs], "suspicions": [asdict(one) for one in suspicions]},
        )

    def rates_of(self, data: str) -> tuple[float, ...]:
        """Returns the rates at which a data set's victims mark."""
        return self.rates if data == self.data[0] else self.rates[-1:]

    def thieves_at(self, rate: float) -> dict[str, Extraction]:
        """Returns who steals at a rate."""
        return {name: it for name, it in self.thieves.items() if rate == self.rates[-1] or name not in self.once}

    def removals(self, stolen: Network, held: Mapping[str, Pool], seed: int) -> Iterator[tuple[str, _Model]]:
        """Yields a stolen model as it is and as its thief may change it, by name.

        Args:
            stolen: The surrogate.
            held: Who holds which rows; the thief tunes and distils on those of the shadow role.
            seed: Seed of the changes.
        """
        rng = np.random.default_rng([seed, 2])
        known = held["shadow"]
        assert known.y is not None and stolen.training is not None
        yield AS_STOLEN, labels_of(stolen)
        for rows in self.tuning_rows:
            tuned = copy.deepcopy(stolen)
            tuned.fit(known.x[:rows], known.y[:rows], self.tuning, seed=seed, label="fine-tuned")
            yield f"fine-tuned on {rows:,} rows", labels_of(tuned)
        for level in self.pruned:
            yield f"pruned by {level:.0%}", labels_of(pruned(stolen, level))
        for level in self.shaken:
            yield f"weight noise {level:g}", labels_of(shaken(stolen, level, rng))
        for level in self.noisy:
            yield f"asked with noise {level:g}", partial(_asked_with_noise, labels_of(stolen), level, seed)
        fresh = known.x[-self.distilled_rows :]
        student = _like(stolen, seed).fit(fresh, stolen.predict(fresh), stolen.training, seed=seed, label="distil")
        yield f"distilled on {len(fresh):,} rows", labels_of(student)

    def jittered(self, asked: Asked, seed: int) -> Network:
        """Trains a surrogate on shifted copies of what was asked about, with the answers, in as many steps."""
        assert asked.model is not None and asked.model.training is not None
        rng = np.random.default_rng([seed, 3])
        x = np.concatenate([shifted(asked.x, self.pixels, rng) for _ in range(self.copies)])
        y = np.tile(targets(asked.answer, asked.model.classes), (self.copies, 1))
        training = replace(asked.model.training, epochs=max(1, asked.model.training.epochs // self.copies))
        return _like(asked.model, seed).fit(x, y, training, seed=seed, label="jitter")

    def _streams(self) -> dict[str, Any]:
        return {
            "thieves": f"each asks about at most {self.budget} rows, from the pool role, under its own account",
            "customer": "the evaluation role, once with marks and once as the owner's plan is answered, without",
            "tuning": "the first rows of the shadow role, with their true labels",
            "distillation": "the last rows of the shadow role, labelled by the stolen model's probabilities",
            "independent": f"models of {self.independent_rows} rows of the control role, whose draws overlap",
        }

    def _notes(self, suspicions: Sequence[Suspicion]) -> tuple[str, ...]:
        pairs = [one for one in suspicions if not one.stolen]
        accused = sum(one.verdict == "accused" for one in pairs)
        return (
            "Marks are drawn by keys that each server draws anew: a second run has other marks.",
            "Thieves, customer and owner ask over HTTP; suspects answer in process, by label alone.",
            "p0 is the greatest upper 99 % bound over the independent models, at least 1/m; the paper takes 1/m. "
            "An accusation takes a mark error L under 0.5 and a tail at 0.5 below 2^-64.",
            "The published 2^-64 holds at rates chosen for it: at 0.5 %, m = 10 and L < 0.5 it takes 16,200 rows.",
            "The released artefact has 13 marks, all noise images; 13 of 13 are 2^-43 at m = 10. Their robustness "
            "tells little of that of marks on natural rows.",
            "Each independent model was accused with each thief's marks, the others giving p0: "
            f"{accused} of {len(pairs)} accusations succeed; those of one model depend on each other.",
        )


class _Case:
    """A victim at all rates, with who steals from it and who did not."""

    def __init__(self, claim: C4, lab: Lab, data: str, seed: int, bar: tqdm[Any]) -> None:
        self.held = lab.roles(data, seed)
        self.victim = lab.train(self.held["victim"], seed, label=f"{data}: victim {seed}")
        self._claim, self._lab, self._data, self._seed, self._bar = claim, lab, data, seed, bar
        self._independents = [self._independent(number) for number in range(claim.independents)]
        victims = {
            _at(rate): (self.victim, f'{{ type = "dawn", rate = {rate} }}') for rate in claim.rates_of(data)
        }
        self._server = lab.serve(f"{data}-{seed}", victims)

    def cost(self, rate: float) -> Cost:
        """Asks about the evaluation rows as a customer and as the owner."""
        held = self.held["evaluation"]
        batches = np.array_split(held.x, -(-len(held) // 500))
        told, bare = (
            self._lab.ask(self._server, _at(rate), f"{plan}-{_at(rate)}", batches, plan=plan).labels
            for plan in ("client", "owner")
        )
        accuracy, marked = (metrics.agreement(labels, _truth(held)).rate for labels in (bare, told))
        return Cost(self._data, self._seed, rate, accuracy, marked, 1 - metrics.agreement(told, bare).rate)

    def suspicions(self, rate: float) -> Iterator[Suspicion]:
        """Has every thief steal at a rate, and accuses all suspects of each theft."""
        for thief, attack in self._claim.thieves_at(rate).items():
            self._bar.set_postfix_str(f"{self._data}, seed {self._seed}, {rate:.1%}, {thief}")
            account, budget = f"{thief}-{_at(rate)}", self._claim.budget
            pool = self.held["pool"]
            theft = self._lab.attack(self._server, _at(rate), account, attack, pool, budget, self._seed)
            opening = _opening(self._server, _at(rate), account)
            accuse = partial(self._accused, opening, rate, thief, len(theft.x))
            for name, model in self._stolen(attack, theft, rate):
                yield accuse(self._suspect(name, model), self._independents, True)
            for suspect in self._independents:
                yield accuse(suspect, [other for other in self._independents if other is not suspect], False)
            self._bar.update()

    def _stolen(self, attack: Extraction, theft: Asked, rate: float) -> Iterator[tuple[str, _Model]]:
        assert theft.model is not None
        if rate != self._claim.rates[-1]:
            yield AS_STOLEN, labels_of(theft.model)
            return
        yield from self._claim.removals(theft.model, self.held, self._seed)
        if isinstance(attack, Knockoff):  # which asks about no rows that depend on its surrogate
            yield JITTERED, labels_of(self._claim.jittered(theft, self._seed))

    def _accused(
        self,
        opening: Opening,
        rate: float,
        thief: str,
        asked: int,
        suspect: _Suspect,
        others: Sequence[_Suspect],
        stolen: bool,
    ) -> Suspicion:
        independent = {other.name: self._oracle(other) for other in others}
        found = Dawn().accuse(self._oracle(suspect), opening, independent, f"in process, {suspect.name}")
        return Suspicion(
            data=self._data,
            seed=self._seed,
            rate=rate,
            thief=thief,
            suspect=suspect.name,
            stolen=stolen,
            accuracy=suspect.accuracy,
            asked=asked,
            marks=found.marks,
            matches=found.matches,
            p0=found.p0,
            independent=tuple(found.independent.values()),
            tail=found.tail,
            p_value=found.p_value,
            verdict=found.verdict,
            missing=found.missing,
        )

    def _independent(self, number: int) -> _Suspect:
        """Trains a model on rows of the control role; those of different models overlap."""
        rng = np.random.default_rng([self._seed, 4, number])
        control = self.held["control"]
        rows = control.take(rng.permutation(len(control))[: self._claim.independent_rows])
        family, name = ("cnn", "mlp")[number % 2], f"independent {number}"
        network = self._lab.train(rows, self._seed + 1 + number, family=family, label=name)
        return self._suspect(f"{name} ({family})", labels_of(network))

    def _suspect(self, name: str, model: _Model) -> _Suspect:
        held = self.held["evaluation"]
        return _Suspect(name, model, metrics.agreement(model(held.x), _truth(held)).rate)

    def _oracle(self, suspect: _Suspect) -> Oracle:
        return Oracle(lambda x: Answer(suspect.model(x)), replace(self.victim.card(), model=suspect.name))


@dataclass(frozen=True)
class _Suspect:
    name: str
    model: _Model
    accuracy: float


def labels_of(network: Network) -> _Model:
    """Returns what tells a network's labels."""
    return lambda x: network.predict(x).argmax(axis=1).astype(np.int64)


def _asked_with_noise(model: _Model, level: float, seed: int, x: Array) -> Labels:
    return model(noisy(x, level, np.random.default_rng([seed, 5])))


def _like(network: Network, seed: int) -> Network:
    return Network.untrained(cast(Architecture, network.family), network.card(), seed=seed)


def _truth(pool: Pool) -> Labels:
    assert pool.y is not None
    return pool.y


def _at(rate: float) -> str:
    return f"{1e6 * rate:.0f}ppm"  # accounts' names have no dots


def _opening(server: Server, model: str, account: str) -> Opening:
    """Commits to the marks that there are, and opens those of an account."""
    place, admin = f"{server.url}/admin/models/{model}/marks", {"Authorization": f"Bearer {server.admin}"}
    server.client.post(f"{place}/commit", headers=admin).raise_for_status()
    reply = server.client.get(f"{place}/{account}", headers=admin)
    reply.raise_for_status()
    return TypeAdapter(Opening).validate_json(reply.content)


def _rows(claim: C4, costs: Sequence[Cost], suspicions: Sequence[Suspicion]) -> Iterator[Finding]:
    """Yields what is printed."""
    for data in claim.data:
        for rate in claim.rates_of(data):
            setting = f"{data}, CNN victim, r_w = {rate:.1%}, at most {claim.budget:,} queries"
            here = [one for one in suspicions if (one.data, one.rate) == (data, rate)]
            yield from _customer(setting, rate, [one for one in costs if (one.data, one.rate) == (data, rate)])
            for thief in claim.thieves_at(rate):
                yield from _theft(setting, thief, [one for one in here if one.thief == thief])
        of = [one for one in suspicions if one.data == data]
        yield from _removals(f"{data}, r_w = {claim.rates[-1]:.1%}, as it may be changed", claim, of)
        yield _false_accusations(f"{data}, models that were not stolen, at all rates", of)


def _customer(setting: str, rate: float, costs: Sequence[Cost]) -> Iterator[Finding]:
    lost = {one.seed: one.bare - one.marked for one in costs}
    expected = f"r_w times accuracy: {rate * median(one.bare for one in costs):.2%}"
    yield over_seeds("customer: accuracy lost", setting, "0.03 to 0.5 %", lost, baseline=expected, unit="share")
    changed = {one.seed: one.changed for one in costs}
    yield over_seeds("customer: answers changed", setting, "r_w", changed, baseline=f"{rate:.1%}", unit="share")


def _theft(setting: str, thief: str, suspicions: Sequence[Suspicion]) -> Iterator[Finding]:
    stolen = [one for one in suspicions if one.suspect == AS_STOLEN]
    others = [one for one in suspicions if not one.stolen]
    row = partial(_over, stolen, setting)
    yield row(f"{thief}: rows asked about", "none", lambda one: one.asked, unit="rows")
    yield row(f"{thief}: marks", "13 (artefact)", lambda one: one.marks, unit="marks")
    yield row(f"{thief}: mark accuracy{_accused(stolen)}", "13 of 13 (artefact)", _mark_accuracy, _chance(others))
    yield row(f"{thief}: test accuracy", "none", lambda one: one.accuracy, _accuracy(others))
    yield row(f"{thief}: confidence at L = 0.5", "> 64 bits", lambda one: _bits(one.tail), "0", unit="bits")
    yield row(f"{thief}: confidence at its L", "> 64 bits", lambda one: _bits(one.p_value), "0", unit="bits")
    yield row(f"{thief}: p0, bounded", "1/m", lambda one: one.p0, _chance(others))


def _removals(setting: str, claim: C4, suspicions: Sequence[Suspicion]) -> Iterator[Finding]:
    for thief in claim.thieves:
        of = [one for one in suspicions if one.thief == thief and one.rate == claim.rates[-1]]
        chance, accuracy = (
            _chance([one for one in of if not one.stolen]),
            _accuracy([one for one in of if not one.stolen]),
        )
        for name in dict.fromkeys(one.suspect for one in of if one.stolen):
            changed = [one for one in of if one.suspect == name]
            published = next((told for start, told in _PUBLISHED.items() if name.startswith(start)), "none")
            what = f"{thief}, {name}: mark accuracy{_accused(changed)}"
            yield _over(changed, setting, what, published, _mark_accuracy, chance)
            yield _over(
                changed, setting, f"{thief}, {name}: test accuracy", "none", lambda one: one.accuracy, accuracy
            )


def _false_accusations(setting: str, suspicions: Sequence[Suspicion]) -> Finding:
    """Counts models that were accused by the marks of some thief."""
    verdicts: dict[tuple[int, str], bool] = {}
    for one in suspicions:
        if not one.stolen:
            model = one.seed, one.suspect
            verdicts[model] = verdicts.get(model, False) or one.verdict == "accused"
    seeds = dict.fromkeys(seed for seed, _ in verdicts)
    return share(
        "independent models accused",
        setting,
        "none",
        sum(verdicts.values()),
        len(verdicts),
        seeds=seeds,
        baseline="2^-64",
    )


def _over(
    suspicions: Sequence[Suspicion],
    setting: str,
    what: str,
    published: str,
    number: Callable[[Suspicion], float],
    baseline: str = "",
    unit: str = "share",
) -> Finding:
    values = {one.seed: number(one) for one in suspicions}
    return over_seeds(what, setting, published, values, baseline=baseline, unit=unit)


def _mark_accuracy(one: Suspicion) -> float:
    return one.matches / one.marks


def _accused(suspicions: Sequence[Suspicion]) -> str:
    return f" ({sum(one.verdict == 'accused' for one in suspicions)} of {len(suspicions)} accused)"


def _chance(independent: Sequence[Suspicion]) -> str:
    hits, marks = sum(one.matches for one in independent), sum(one.marks for one in independent)
    return f"independent: {hits / marks:.1%}"


def _accuracy(independent: Sequence[Suspicion]) -> str:
    return f"independent: {median(one.accuracy for one in independent):.1%}"


def _bits(chance: float) -> float:
    return max(0.0, -math.log2(max(chance, 2.0**-1074)))  # the least positive float
