"""One of C4's victims: thieves steal from it, and the owner accuses their models and independent ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from attacker.extraction.extraction import Extraction
from attacker.extraction.knockoff import Knockoff
from defenses.watermarks.ledger import Opening
from experiments import metrics
from experiments.lab import Asked, Lab
from owner.dawn import Claim, Dawn
from owner.ownership import prove
from wire import Answer, Array, Labels, Oracle
from zoo.data import Pool
from zoo.network import Network

if TYPE_CHECKING:
    from experiments.claims.dawn_removal import C4

AS_STOLEN, JITTERED = "as stolen", "trained on shifted copies"
FILTERED, STOPPED = "retrained on answers that others confirm", "stopped early"

Classify = Callable[[Array], Labels]
"""From rows ``(n, ...)`` to labels ``(n,)``."""


@dataclass(frozen=True)
class Suspicion:
    """A suspect tested with a thief's marks.

    Attributes:
        data: Name of the data set.
        seed: Seed of roles, victim and thief.
        rate: Share of the rows that the victim marks.
        thief: The attack whose marks are used.
        suspect: The change made to the stolen model, or the name of the independent model.
        stolen: Whether the suspect was stolen.
        accuracy: Its test accuracy.
        asked: Number of rows that the thief queried.
        marks: Number of marks among them.
        matches: Number of marks that hold in the suspect.
        p0: Upper bound, from the independent models, of the chance that a mark holds in a model not stolen.
        independent: Number of marks that hold in each independent model.
        tail: Chance that a model that was not stolen has a mark error of at most the greatest that accuses.
        p_value: Chance that it has a mark error of at most the suspect's.
        verdict: The owner's verdict.
        missing: Number of further marks that would suffice; None if no number would.
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
    """The cost of marks to a customer.

    Attributes:
        data: Name of the data set.
        seed: Seed of roles and victim.
        rate: Share of the rows that the victim marks.
        bare: Accuracy of the answers under the owner's plan, without marks.
        marked: Accuracy of the answers under a customer's plan.
        changed: Share of answers that differ between the two.
    """

    data: str
    seed: int
    rate: float
    bare: float
    marked: float
    changed: float


@dataclass(frozen=True)
class Suspect:
    """A model that answers in process, and its test accuracy."""

    name: str
    model: Classify
    accuracy: float


class Case:
    """A victim served at all rates, its thieves, and models that were not stolen."""

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
        """Queries the evaluation rows as a customer and as the owner."""
        held = self.held["evaluation"]
        batches = np.array_split(held.x, -(-len(held) // 500))
        client, bare = (
            self._lab.ask(self._server, _at(rate), f"{plan}-{_at(rate)}", batches, plan=plan).labels
            for plan in ("client", "owner")
        )
        accuracy, marked = (metrics.agreement(labels, _truth(held)).rate for labels in (bare, client))
        return Cost(self._data, self._seed, rate, accuracy, marked, 1 - metrics.agreement(client, bare).rate)

    def suspicions(self, rate: float) -> Iterator[Suspicion]:
        """Runs every attack at a rate, and tests all suspects with the marks of each."""
        for thief, attack in self._claim.thieves_at(rate).items():
            self._bar.set_postfix_str(f"{self._data}, seed {self._seed}, {rate:.1%}, {thief}")
            account, budget = f"{thief}-{_at(rate)}", self._claim.budget
            pool = self.held["pool"]
            theft = self._lab.attack(self._server, _at(rate), account, attack, pool, budget, self._seed)
            opening = Opening.from_json(self._server.marks(_at(rate), account) or b"", account)
            accuse = partial(self._accused, opening, rate, thief, len(theft.x))
            for name, model in self._stolen(attack, theft, rate):
                yield accuse(self._suspect(name, model), self._independents, True)
            for suspect in self._independents:
                yield accuse(suspect, [other for other in self._independents if other is not suspect], False)
            if isinstance(attack, Knockoff) and rate == self._claim.rates[-1]:
                yield from self._diluted(theft, rate, thief)
            self._bar.update()

    def _diluted(self, theft: Asked, rate: float, thief: str) -> Iterator[Suspicion]:
        """Tests the surrogate with the marks of thieves who asked about more, or under several accounts.

        An answer depends on the row alone, so the surrogate is the same.
        """
        rng = np.random.default_rng([self._seed, 8])
        more = round(self._claim.junk * len(theft.x))
        pool = self.held["pool"].x
        for name, rows in (
            ("noise", rng.random((more, *theft.x.shape[1:]), np.float32)),
            ("further rows", pool[rng.integers(0, len(pool), more)]),
        ):
            asked = np.concatenate([theft.x, rows])
            (opening,) = self._asked_again(name.replace(" ", "-"), rate, [asked])
            suspect = self._suspect(f"diluted by as much {name}", labels_of(theft.model))
            yield self._accused(opening, rate, thief, len(asked), suspect, self._independents, True)
        for count in self._claim.accounts:
            openings = self._asked_again(f"split-{count}", rate, [theft.x[i::count] for i in range(count)])
            suspect = self._suspect(f"split over {count} accounts, the marks of one", labels_of(theft.model))
            first = len(theft.x[::count])
            yield self._accused(openings[0], rate, thief, first, suspect, self._independents, True)
            suspect = replace(suspect, name=f"split over {count} accounts, the marks of all")
            yield self._accused(
                openings[0], rate, thief, len(theft.x), suspect, self._independents, True, openings[1:]
            )

    def _asked_again(self, name: str, rate: float, shares: Sequence[Array]) -> list[Opening]:
        """Queries shares of rows, each under a new account; returns their marks, under one root."""
        model = _at(rate)
        accounts = [f"{name}-{number}-{model}" for number in range(len(shares))]
        for account, rows in zip(accounts, shares, strict=True):
            self._lab.ask(self._server, model, account, np.array_split(rows, -(-len(rows) // 500)), label=account)
        return [Opening.from_json(self._server.marks(model, account) or b"", account) for account in accounts]

    def _stolen(self, attack: Extraction, theft: Asked, rate: float) -> Iterator[tuple[str, Classify]]:
        if rate != self._claim.rates[-1]:
            yield AS_STOLEN, labels_of(theft.model)
            return
        yield from self._claim.removals(theft.model, self.held, self._seed)
        if isinstance(attack, Knockoff):  # its queries do not depend on its surrogate
            yield JITTERED, labels_of(self._claim.jittered(theft, self._seed))
            yield FILTERED, labels_of(self._claim.filtered(theft, self._seed))
            yield STOPPED, labels_of(self._claim.stopped(theft, self._seed))

    def _accused(
        self,
        opening: Opening,
        rate: float,
        thief: str,
        asked: int,
        suspect: Suspect,
        others: Sequence[Suspect],
        stolen: bool,
        further: Sequence[Opening] = (),
    ) -> Suspicion:
        independent = {other.name: self._oracle(other) for other in others}
        claim = Claim(opening, independent, others=tuple(further))
        found = prove(Dawn(), self._oracle(suspect), claim, np.random.default_rng(0))
        held = found.details
        return Suspicion(
            data=self._data,
            seed=self._seed,
            rate=rate,
            thief=thief,
            suspect=suspect.name,
            stolen=stolen,
            accuracy=suspect.accuracy,
            asked=asked,
            marks=held.marks,
            matches=held.matches,
            p0=held.p0,
            independent=tuple(held.independent.values()),
            tail=held.tail,
            p_value=found.p_value,
            verdict=found.verdict,
            missing=held.missing,
        )

    def _independent(self, number: int) -> Suspect:
        """Trains a model on rows of the control role; the rows of different models overlap."""
        rng = np.random.default_rng([self._seed, 4, number])
        control = self.held["control"]
        rows = control.take(rng.permutation(len(control))[: self._claim.independent_rows])
        family, name = ("cnn", "mlp")[number % 2], f"independent {number}"
        network = self._lab.train(rows, self._seed + 1 + number, family=family, label=name)
        return self._suspect(f"{name} ({family})", labels_of(network))

    def _suspect(self, name: str, model: Classify) -> Suspect:
        held = self.held["evaluation"]
        return Suspect(name, model, metrics.agreement(model(held.x), _truth(held)).rate)

    def _oracle(self, suspect: Suspect) -> Oracle:
        return Oracle(lambda x: Answer(suspect.model(x)), replace(self.victim.card(), model=suspect.name))


def labels_of(network: Network) -> Classify:
    """Returns the function from rows to a network's labels."""
    return lambda x: network.predict(x).argmax(axis=1).astype(np.int64)


def _truth(pool: Pool) -> Labels:
    assert pool.y is not None
    return pool.y


def _at(rate: float) -> str:
    return f"{1e6 * rate:.0f}ppm"  # accounts' names have no dots
