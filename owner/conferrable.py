"""Conferrable adversarial examples: images on which copies agree with the victim and independent models do not.

Source: Lukas, Zhang, Kerschbaum, "Deep Neural Network Fingerprinting by Conferrable Adversarial Examples", ICLR
2021, section 4. The conferrability of an image x for class t is ``Surr(x, t) (1 - Ref(x, t))``: the mean
probability of t by thefts of the victim, times that of the other classes by independent models. The conferrable
ensemble method perturbs images within a radius so that the conferrability rises for some class, the victim leaves
its own label, and thefts agree with the victim. A random part of the models is left out at each step, so that
images are not overfitted to them.

What differs: the owner trains thefts and independent models (the paper's surrogates and references) of the
victim's own family, on one half of the rows, and perturbs the other half. The paper accuses where at least 75 % of
the victim's labels are given; here, a suspect's share is compared with those of independent models by Student's t.
The steps are Adam's, as there, but fewer and larger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch

from owner.commitment import Receipt
from owner.evidence import Evidence
from owner.one_more import beyond, enough, evidence, share
from owner.ownership import Committing, MostRows
from owner.scheme_key import SchemeKey, receipt_of
from wire import Array, BadInput, Card, Labels, Oracle
from wire.fits import label_misfit, misfit
from zoo.data.pool import Pool
from zoo.families.family import Architecture
from zoo.folder import fingerprint
from zoo.network import Network
from zoo.training import Training

CAUTION = (
    "The p-value holds if the independent models resemble the suspect in all but the theft. The images were made "
    "by the owner: a judge must make them again, from models of the judge's own."
)


@dataclass(frozen=True)
class Models:
    """The owner's holdings.

    Attributes:
        network: The victim, with its weights.
        reference: Labelled images that trained neither the victim nor an independent model.
        independent: Models known not to be stolen, by name.
        committed: The key, if the owner committed to victim and rows: all randomness follows from it.
    """

    network: Network
    reference: Pool
    independent: Mapping[str, Oracle]
    committed: SchemeKey | None = None


@dataclass(frozen=True, eq=False)
class Study:
    """The images, the victim's labels, and how often independent models return the same labels.

    Attributes:
        x: Conferrable images, ``(n, *shape)``.
        y: The victim's labels of them, ``(n,)``.
        conferrability: The conferrability of each image, by the owner's models, ``(n,)``.
        independent: Share of the labels that each independent model gives.
        receipt: The proof that the owner's log has the commitment; None without a log.
    """

    x: Array
    y: Labels
    conferrability: Array
    independent: Mapping[str, float]
    receipt: Receipt | None = None


@dataclass(frozen=True)
class Conferred:
    """How often a suspect agrees with the victim on conferrable images.

    Attributes:
        rows: Number of images that were shown.
        shared: Share of them to which the suspect gives the victim's label.
        conferrability: Their mean conferrability, by the owner's models.
        z: The share, in deviations of the independent models' from their mean.
        independent: The share of each independent model.
    """

    rows: int
    shared: float
    conferrability: float
    z: float
    independent: dict[str, float]

    def describe(self, verdict: str) -> list[str]:
        """Returns the measurements and the next step, as lines."""
        return [
            f"{self.shared:.1%} of {self.rows} images have the victim's label (conferrability "
            f"{self.conferrability:.2f} by the owner's models)",
            *(f"independent model {name}: {found:.1%}" for name, found in self.independent.items()),
            f"z among the independent models: {self.z:.2f}",
            "next: give evidence, key, victim and rows to a judge, who makes the images again (judge-committed)",
        ]


@dataclass(frozen=True)
class Conferrable(Committing):
    """Conferrable adversarial examples: does a suspect agree with the victim where only copies do? (ICLR 2021).

    Attributes:
        rows: Maximum number of images to show: those of greatest conferrability.
        models: Number of thefts that the owner simulates, and of independent models that the owner trains.
        epochs: Epochs of their training.
        candidates: Maximum number of images to perturb.
        radius: Greatest change of a feature, for values from 0 to 1.
        steps: Number of steps.
        lr: Size of a step of Adam.
        left_out: Share of the models to leave out of each step.
        confer: Weight of the conferrability (alpha).
        leave: Weight of leaving the victim's own label (beta).
        agree: Weight of the agreement of thefts with the victim (gamma).
        alpha: Significance level.
        tries: Number of suspects that the owner tested; multiplies the p-value.
    """

    rows: int = 100
    models: int = 6
    epochs: int = 10
    candidates: int = 1000
    radius: float = 0.15
    steps: int = 60
    lr: float = 0.01
    left_out: float = 0.3
    confer: float = 1.0
    leave: float = 1.0
    agree: float = 1.0
    alpha: float = 0.01
    tries: int = 1

    def __post_init__(self) -> None:
        if min(self.rows, self.models) < 2 or min(self.epochs, self.candidates, self.steps, self.tries) < 1:
            raise BadInput(f"rows and models must be at least 2, the other numbers at least 1, not {self}")
        if not (0 < self.radius <= 1 and self.lr > 0 and 0 <= self.left_out < 1 and 0 < self.alpha < 1):
            raise BadInput(f"radius, lr, left_out and alpha must lie between 0 and 1, not {self}")

    def most_rows(self) -> MostRows:
        """Returns the maximum number of rows that the suspect is asked about."""
        return MostRows(victim=0, suspect=self.rows)

    def check(self, suspect: Card, holdings: Models) -> None:
        """Raises :class:`~wire.BadInput` if there are too few models, or one does not take the images."""
        enough(holdings.independent)
        if holdings.committed is not None:
            files = {"reference rows": holdings.reference.fingerprint, "victim": fingerprint(holdings.network)}
            holdings.committed.rule.check("conferrable", files, self.committed())
        if holdings.reference.bounds != (0.0, 1.0):
            raise BadInput("only rows with values from 0 to 1 can be moved")
        for card in (suspect, holdings.network.card(), *(one.card for one in holdings.independent.values())):
            if fault := misfit(holdings.reference.x, card) or label_misfit(holdings.reference.y, card):
                raise BadInput(f"model {card.model} does not take the reference rows: {fault}")

    def prepare(self, holdings: Models, rng: np.random.Generator) -> Study:
        """Trains thefts and independent models, makes the images, and queries the given independent models."""
        rng = rng if holdings.committed is None else holdings.committed.rng()
        victim, order = holdings.network, rng.permutation(len(holdings.reference))
        trains, moves = (holdings.reference.take(part) for part in np.array_split(order, 2))
        assert moves.y is not None
        thefts, references = self.owned(victim, trains, rng)
        x = self.moved(victim, thefts, references, moves.x[: self.candidates], rng)
        confer, y = conferrability(thefts, references, x), victim.predict(x).argmax(axis=1)
        best = np.argsort(-confer * (y != moves.y[: len(x)]), kind="stable")[: self.rows]
        others = {name: share(model, x[best], y[best]) for name, model in holdings.independent.items()}
        return Study(x[best], y[best], confer[best], others, receipt_of(holdings.committed))

    def accuse(self, suspect: Oracle, study: Study, rng: np.random.Generator) -> Evidence[Conferred]:
        """Queries the suspect about the images."""
        before, shared = suspect.spent, share(suspect, study.x, study.y)
        z, p = beyond(shared, list(study.independent.values()))
        details = Conferred(len(study.x), shared, float(study.conferrability.mean()), z, dict(study.independent))
        return evidence("conferrable", self, p, suspect, before, CAUTION, details, study.receipt)

    def owned(self, victim: Network, rows: Pool, rng: np.random.Generator) -> tuple[list[Network], list[Network]]:
        """Returns thefts, half of them by labels and half by probabilities, and independent models."""
        assert rows.y is not None
        probs = victim.predict(rows.x)
        taught = [probs.argmax(axis=1) if n % 2 else probs for n in range(self.models)]
        made = [self._trained(victim, rows.x, y, rng) for y in (*taught, *[rows.y] * self.models)]
        return made[: self.models], made[self.models :]

    def _trained(self, victim: Network, x: Array, y: Array, rng: np.random.Generator) -> Network:
        chosen, seed = rng.permutation(len(x))[: max(1, 4 * len(x) // 5)], int(rng.integers(2**31))
        network = Network.untrained(cast(Architecture, victim.family), victim.card(), seed=seed)
        return network.fit(x[chosen], y[chosen], Training(self.epochs), seed=seed, label="owner's model")

    def moved(
        self,
        victim: Network,
        thefts: Sequence[Network],
        references: Sequence[Network],
        x: Array,
        rng: np.random.Generator,
    ) -> Array:
        """Returns images perturbed by the conferrable ensemble method, ``(n, *shape)``, rounded to bytes."""
        start = torch.from_numpy(x)
        with torch.no_grad():
            own = victim.module(start).softmax(1)
        change = torch.zeros_like(start, requires_grad=True)
        optimizer = torch.optim.Adam([change], self.lr)
        for _ in range(self.steps):
            now = (start + change).clamp(0, 1)
            surr, ref = (_mean(part, now) for part in (self._some(thefts, rng), self._some(references, rng)))
            probs = victim.module(now).softmax(1)
            best = (surr * (1 - ref)).max(dim=1).values
            loss = -self.confer * _log(best).sum() + self.leave * (own * _log(probs)).sum()
            loss = loss - self.agree * (probs * _log(surr)).sum()
            (change.grad,) = torch.autograd.grad(loss, [change])
            optimizer.step()
            with torch.no_grad():
                change.clamp_(-self.radius, self.radius)
        return np.asarray((torch.round((start + change.detach()).clamp(0, 1) * 255) / 255).numpy())

    def _some(self, models: Sequence[Network], rng: np.random.Generator) -> list[Network]:
        count = max(1, round((1 - self.left_out) * len(models)))
        return [models[place] for place in rng.permutation(len(models))[:count]]


def conferrability(thefts: Sequence[Network], references: Sequence[Network], x: Array) -> Array:
    """Returns the greatest ``Surr(x, t) (1 - Ref(x, t))`` over classes of rows ``x``, ``(n,)``."""
    surr, ref = (np.mean([model.predict(x) for model in models], axis=0) for models in (thefts, references))
    return np.asarray((surr * (1 - ref)).max(axis=1))


def _log(p: torch.Tensor) -> torch.Tensor:
    return p.clamp_min(1e-6).log()


def _mean(models: Sequence[Network], x: torch.Tensor) -> torch.Tensor:
    return torch.stack([model.module(x).softmax(1) for model in models]).mean(dim=0)
