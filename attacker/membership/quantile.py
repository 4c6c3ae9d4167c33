"""Quantile regression: one model that tells how sure of a row a victim is that has not seen it.

Source: Bertran, Tang, Roth, Kearns, Morgenstern, Wu, "Scalable Membership Inference Attacks via Quantile
Regression", NeurIPS 2023, section 3 (both forms: by the pinball loss at 41 levels, and the Gaussian one, which the
authors use for images). The regressor takes the true label too, as an option of the authors' code does
(amazon-science/quantile-mia). The threshold is that of rows held out from the regression (Romano,
Patterson, Candès, "Conformalized Quantile Regression", NeurIPS 2019), since margins are not quite normal.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from attacker.asking import needs_probs
from attacker.membership.membership import ask
from attacker.membership.signals import margin
from attacker.surrogate import class_names, family_named, new_seed
from wire import Answer, Array, BadInput, Labels, Oracle
from zoo.data.pool import Pool
from zoo.network import Network
from zoo.training import Training

FEWEST = 8  # rows of the population
LEVELS = tuple(np.logspace(0, -4, 41))  # the authors': shares alpha of unseen rows above a quantile
BOUNDS = (-3.0, 3.0)  # of the logarithm of a deviation, in units of that of all margins


@dataclass(frozen=True)
class Quantile:
    """Quantile regression: the victim is surer of a row than of unseen rows that look like it (NeurIPS 2023).

    A network learns, from the victim's answers about rows that it has not seen, how the margin of a row's label
    is distributed: its mean and standard deviation, or its quantiles. The score is how far out a candidate's
    margin is (in standard deviations, or as the logarithm of the level of the quantile), less what a share ``fpr``
    of further unseen rows exceeds. No other model is trained, and the victim's architecture need not be known.

    Attributes:
        form: normal, a mean and a standard deviation; or pinball, quantiles.
        fpr: False positive rate at which the attack decides.
        population: Rows of the shadow pool to query, of which the victim has seen none; at most for half of the
            budget. A quarter of them sets the threshold.
        family: Family of the regressor: softmax, logistic, mlp, cnn, resnet or torchvision.
        epochs: Passes over the population.
        lr: Greatest learning rate (Adam, one cycle).
        l2: Weight decay.
    """

    form: Literal["normal", "pinball"] = "normal"
    fpr: float = 0.01
    population: int = 5000
    family: str = "cnn"
    epochs: int = 8
    lr: float = 1e-3
    l2: float = 1e-4

    def __post_init__(self) -> None:
        if not 0 < self.fpr < 1 or min(self.population, self.epochs) < 1:
            raise BadInput(f"{self}: fpr must lie between 0 and 1; population and epochs must be at least 1")

    @property
    def threshold(self) -> float:
        """The score that a share ``fpr`` of the held-out rows exceeds."""
        return 0.0

    def infer(self, oracle: Oracle, x: Array, y: Labels, shadow: Pool, rng: np.random.Generator) -> Array:
        """Returns the standard score of each candidate's margin, above the threshold; see :class:`Membership`.

        Raises:
            BadInput: The shadow pool has no labels, or fewer than 8 of its rows were answered.
        """
        needs_probs(oracle.card)
        if shadow.y is None or not len(shadow):
            raise BadInput(f"{type(self).__name__}: needs a shadow pool of labelled rows, not {len(shadow)}")
        classes = len(class_names(oracle.card))
        half = len(shadow) if oracle.left is None else oracle.left // 2
        unseen = rng.permutation(len(shadow))[: min(self.population, half)]
        room = None if oracle.left is None else oracle.left - len(unseen)
        chosen = rng.permutation(len(x))[:room]
        answered, answer = ask(oracle, x[chosen], rng)
        answered = chosen[answered]
        heard = oracle.collect(shadow.x[unseen])
        if len(heard) < FEWEST:
            raise BadInput(f"{len(heard)} rows of the shadow pool were answered; at least {FEWEST} are needed")
        unseen = unseen[: len(heard)]
        rows, labels = (
            np.concatenate([shadow.x[unseen], x[answered]]),
            np.concatenate([shadow.y[unseen], y[answered]]),
        )
        margins = margin(Answer.join([heard, answer]), labels, classes)
        fitted, held = len(unseen) * 3 // 4, len(unseen)
        margins = (margins - margins[:fitted].mean()) / (margins[:fitted].std() + 1e-9)
        regressor = self._fitted(oracle, rows[:fitted], labels[:fitted], margins[:fitted], rng)
        far = (_standard if self.form == "normal" else _surprise)(regressor.logits(rows), labels, margins)
        scores = np.full(len(x), np.nan)
        scores[answered] = far[held:] - np.quantile(far[fitted:held], 1 - self.fpr, method="higher")
        return scores

    def _fitted(self, oracle: Oracle, x: Array, y: Labels, margins: Array, rng: np.random.Generator) -> Network:
        """Trains the regressor: a mean and the logarithm of a deviation, or quantiles, for each label."""
        parts = ("mean", "spread") if self.form == "normal" else tuple(map(str, LEVELS))
        loss = _unlikelihood if self.form == "normal" else _pinball
        outputs = tuple(f"{part} {name}" for part in parts for name in class_names(oracle.card))
        card = replace(oracle.card, classes=len(outputs), class_names=outputs)
        network = Network.untrained(family_named(self.family), card, seed=new_seed(rng))
        training = Training(self.epochs, lr=self.lr, weight_decay=self.l2)
        told = np.column_stack([y, margins]).astype(np.float32)
        return network.fit(x, told, training, seed=new_seed(rng), label="regressor", loss=loss)


def _unlikelihood(outputs: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
    """Returns the mean negative logarithm of the margins' normal density, but for a constant.

    Args:
        outputs: Of the regressor, ``(n, 2 k)``.
        told: Labels and margins, ``(n, 2)``.
    """
    label, value = told[:, :1].long(), told[:, 1:]
    mean, log_deviation = (part.gather(1, label) for part in outputs.chunk(2, dim=1))
    log_deviation = log_deviation.clamp(*BOUNDS)
    return (log_deviation + (value - mean) ** 2 * torch.exp(-2 * log_deviation) / 2).mean()


def _pinball(outputs: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
    """Returns the mean pinball loss of the quantiles.

    Args:
        outputs: Of the regressor, ``(n, 41 k)``: the quantile above which lies a share alpha, for each alpha.
        told: Labels and margins, ``(n, 2)``.
    """
    label, value = told[:, :1].long(), told[:, 1:]
    alpha = torch.tensor(LEVELS, dtype=outputs.dtype, device=outputs.device)
    quantiles = torch.cat([part.gather(1, label) for part in outputs.chunk(len(LEVELS), dim=1)], dim=1)
    return torch.maximum((1 - alpha) * (value - quantiles), alpha * (quantiles - value)).mean()


def _standard(outputs: Array, y: Labels, margins: Array) -> Array:
    """Returns by how many standard deviations each margin exceeds its mean, ``(n,)``."""
    mean, log_deviation = (part[np.arange(len(y)), y] for part in np.split(outputs.astype(np.float64), 2, axis=1))
    return np.asarray((margins - mean) / np.exp(log_deviation.clip(*BOUNDS)))


def _surprise(outputs: Array, y: Labels, margins: Array) -> Array:
    """Returns minus the logarithm of the share of unseen rows like each that exceed its margin, ``(n,)``.

    Between two quantiles the logarithm is interpolated; beyond all of them it goes on with the margin. Quantiles
    that cross are sorted (Chernozhukov, Fernandez-Val, Galichon, "Quantile and Probability Curves Without
    Crossing", Econometrica 2010).
    """
    parts = np.split(outputs.astype(np.float64), len(LEVELS), axis=1)
    quantiles = np.sort(np.stack([part[np.arange(len(y)), y] for part in parts], axis=1), axis=1)
    depth = -np.log(LEVELS)  # rises with the quantiles
    inside = np.array([np.interp(value, row, depth) for value, row in zip(margins, quantiles, strict=True)])
    beyond = np.maximum(margins - quantiles[:, -1], 0) - np.maximum(quantiles[:, 0] - margins, 0)
    return np.asarray(inside + beyond)
