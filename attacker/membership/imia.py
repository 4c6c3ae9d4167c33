"""IMIA: a few models that imitate the victim, in place of many that know nothing of it.

Source: "Imitative Membership Inference Attack", USENIX Security 2026, the adaptive setting: the attacker has the
candidates when models are trained. Read in the authors' code (yuntaod/IMIA): the two losses, their weights, the
warm-up that both models of a pair share. The score there was not to be had; here it is the logarithm of LiRA's
likelihood ratio, with one variance for all rows.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from attacker.asking import needs_probs
from attacker.membership.membership import ask
from attacker.membership.references import halves
from attacker.membership.signals import log_probs, margin
from attacker.surrogate import class_names, family_named, new_seed, own_model
from wire import Answer, Array, BadInput, Labels, Oracle
from zoo.data.pool import Pool
from zoo.network import Network
from zoo.training import Training

LEAST = -12.0  # of a logarithm of a probability that is imitated


@dataclass(frozen=True)
class Imia:
    """IMIA: pairs of models that imitate the victim, one with a row among its members and one without (2026).

    Both models of a pair begin as one, trained on the labels of half of the rows. One then learns the victim's
    answers about these rows, and so answers about the other half as a victim that has not seen them. The other
    learns the labels of the other half, and so answers as one that has. A row's score is the logarithm of the
    ratio of two normal likelihoods of the victim's margin.

    Attributes:
        pairs: Number of pairs, even: in every second one, the halves are exchanged.
        population: Rows of the shadow pool to query, of which the victim has seen none; at most for a quarter of
            the budget.
        family: Family of the models: softmax, logistic, mlp, cnn, resnet or torchvision.
        warm_up: Passes over the labels of the first half, which both models of a pair share.
        imitation: Passes over the victim's answers.
        memorising: Passes over the labels of the other half.
        lr: Greatest learning rate (Adam, one cycle).
        alpha: Weight of the imitation, beside that of the labels.
        weight: Weight, in the imitation, of the true label and of the most probable other one.
    """

    pairs: int = 2
    population: int = 1000
    family: str = "cnn"
    warm_up: int = 3
    imitation: int = 4
    memorising: int = 4
    lr: float = 4e-3
    alpha: float = 0.5
    weight: float = 2.0

    def __post_init__(self) -> None:
        if self.pairs < 2 or self.pairs % 2 or min(self.warm_up, self.imitation, self.memorising) < 1:
            raise BadInput(f"{self}: pairs must be even and at least 2, and all passes at least 1")
        if not 0 < self.alpha <= 1 or not self.weight > 0 or self.population < 0:
            raise BadInput(
                f"{self}: alpha must lie between 0 and 1, weight be greater than 0, population at least 0"
            )

    @property
    def threshold(self) -> float:
        """The logarithm of equal likelihoods."""
        return 0.0

    def infer(self, oracle: Oracle, x: Array, y: Labels, shadow: Pool, rng: np.random.Generator) -> Array:
        """Returns the log-likelihood ratio of each candidate; see :class:`Membership`."""
        needs_probs(oracle.card)
        most = len(shadow) if oracle.left is None else oracle.left // 4  # candidates need the budget too
        unseen = rng.permutation(len(shadow))[: min(self.population, most)]
        chosen = rng.permutation(len(x))[: None if oracle.left is None else oracle.left - len(unseen)]
        answered, answer = ask(oracle, x[chosen], rng)
        answered = chosen[answered]
        rows, labels = x[answered], y[answered]
        if shadow.y is not None:
            heard = oracle.collect(shadow.x[unseen])
            unseen = unseen[: len(heard)]
            rows, labels = np.concatenate([rows, shadow.x[unseen]]), np.concatenate([labels, shadow.y[unseen]])
            answer = Answer.join([answer, heard])
        told = np.maximum(log_probs(answer, len(class_names(oracle.card))), LEAST)
        member, seeds = halves(self.pairs, len(rows), rng)
        inside, outside = np.full(member.shape, np.nan), np.full(member.shape, np.nan)
        for pair, (other, seed) in enumerate(zip(member, seeds, strict=True)):
            without, having = self._pair(oracle, rows, labels, told, other, np.random.default_rng(seed))
            for signals, model in ((outside, without), (inside, having)):
                probs = model.predict(rows[other])
                imitated = Answer(probs.argmax(axis=1).astype(np.int64), probs)
                signals[pair, other] = margin(imitated, labels[other], told.shape[1])
        ratios = _ratio(margin(answer, labels, told.shape[1]), inside, outside)
        scores = np.full(len(x), np.nan)
        scores[answered] = ratios[: len(answered)]
        return scores

    def _pair(
        self, oracle: Oracle, x: Array, y: Labels, told: Array, other: Array, rng: np.random.Generator
    ) -> tuple[Network, Network]:
        """Trains a pair of models: one that imitates a victim without the rows in ``other``, and one with them."""
        start, order = new_seed(rng), new_seed(rng)
        first = np.column_stack([y, told]).astype(np.float32)[~other]
        out = own_model(oracle.card, family_named(self.family), seed=start)
        out.fit(x[~other], y[~other], Training(self.warm_up, lr=self.lr), seed=order, label="warm-up")
        into = deepcopy(out)

        def imitation(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return _imitation(logits, target, self.alpha, self.weight)

        out.fit(x[~other], first, Training(self.imitation, lr=self.lr), seed=order, label="out", loss=imitation)
        into.fit(x[other], y[other], Training(self.memorising, lr=self.lr), seed=order, label="in")
        return out, into


def _imitation(logits: torch.Tensor, target: torch.Tensor, alpha: float, weight: float) -> torch.Tensor:
    """Returns the imitation loss: weighted squared distances of log-probabilities, and the cross-entropy.

    Args:
        logits: Of the model, ``(n, k)``.
        target: Labels, then the victim's log-probabilities, ``(n, 1 + k)``.
        alpha: Weight of the distances, beside that of the cross-entropy.
        weight: Weight of the true label and of the most probable other one.
    """
    label, told = target[:, 0].long(), target[:, 1:]
    rival = told.scatter(1, label[:, None], -torch.inf).argmax(dim=1)
    weights = torch.ones_like(told)
    weights.scatter_(1, torch.stack([label, rival], dim=1), weight)
    distances = (weights * (logits.log_softmax(1).clamp(min=LEAST) - told)) ** 2
    return alpha * distances.mean() / weights.mean() + (1 - alpha) * functional.cross_entropy(logits, label)


def _ratio(victim: Array, inside: Array, outside: Array) -> Array:
    """Returns the logarithm of the ratio of normal likelihoods, ``(n,)``.

    Args:
        victim: The victim's margins, ``(n,)``.
        inside: Margins by the models that learnt a row's label, ``(pairs, n)``; NaN of the other models.
        outside: The same by their partners.
    """
    means = [np.nanmean(part, axis=0) for part in (inside, outside)]
    deviation = np.nanstd(np.concatenate([victim - mean for mean in means]))
    distances = [((victim - mean) / (deviation + 1e-9)) ** 2 for mean in means]
    return np.asarray((distances[1] - distances[0]) / 2)
