"""Membership inference with shadow models and an attack model per class.

Source: Shokri, Stronati, Song, Shmatikov, "Membership Inference Attacks Against Machine Learning Models",
IEEE S&P 2017, sections V (the attack) and VIII-A (victims that disclose less).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from attacker.membership.references import Referenced
from attacker.membership.signals import log_odds, log_probs
from attacker.surrogate import new_seed
from wire import Answer, Array, BadInput, Labels, Oracle
from zoo.data.pool import Pool
from zoo.families.mlp import Mlp
from zoo.network import Network
from zoo.training import Training

LEAST = -16.0  # about the logarithm of float32's precision


@dataclass(frozen=True)
class Shadow(Referenced):
    """Shadow models: learns to recognise members from the attacker's own models (S&P 2017).

    Each shadow model is trained on a random half of the shadow pool. The shadow models' answers to the whole pool,
    with the true label and "in" or "out", form the attack set. It is split by true label, and each class has its
    own attack model: a fully connected network with one hidden layer of 64 ReLU units and a softmax. A candidate's
    score is the probability of "in" by the attack model of its class.

    As in the paper's experiments with victims that disclose less, the shadow models' answers are blurred as the
    victim's are. Attack models see the logarithm of the true label's odds: most probabilities themselves are
    rounded to 0 or 1. The paper's attack models see the whole vector, which needs more rows of each class: with a
    few hundred they learn its noise, and do better where rounding takes it away. With ``online``, the candidates
    train shadow models too, which the paper does not do.

    The defaults of the attack models are those of an author's code (csong27/membership-inference).

    Attributes:
        sees: What attack models see, standardised: the odds, or the vector of the logarithms of all probabilities
            too.
        attack_epochs: Passes of an attack model over its part of the attack set.
        attack_batch: Rows per training step of an attack model.
        attack_lr: Learning rate of the attack models (Adam).
        l2: Weight decay of the attack models.
    """

    references: int = 20
    online: bool = False
    sees: Literal["odds", "vector"] = "odds"
    attack_epochs: int = 50
    attack_batch: int = 200
    attack_lr: float = 0.01
    l2: float = 1e-7

    @property
    def threshold(self) -> float:
        """Half: in and out are equally many in the attack set."""
        return 0.5

    def infer(self, oracle: Oracle, x: Array, y: Labels, shadow: Pool, rng: np.random.Generator) -> Array:
        """Returns the probability of "in" by the attack model of each candidate's class; see :class:`Membership`.

        Raises:
            BadInput: The shadow pool is too small, or has no row of a class of the candidates.
        """
        if shadow.y is not None and len(missed := np.setdiff1d(y, shadow.y)):
            raise BadInput(f"the shadow pool has no row of class {', '.join(map(str, missed))}")
        found = self.compare(oracle, x, y, shadow, rng, further=True)
        rows = len(found.victim)
        usable = np.ones(len(found.y), bool)
        usable[found.population : rows] = self.online
        answers, labels, member = [], [], []
        for answer, chosen in zip(found.references, found.member, strict=True):
            inside, outside = (rng.permutation(np.flatnonzero(usable & side)) for side in (chosen, ~chosen))
            of = np.concatenate([side[: min(len(inside), len(outside))] for side in (inside, outside)])
            answers.append(self._features(answer, found.y, oracle.card.classes)[of])
            labels.append(found.y[of])
            member.append(chosen[of])
        attack_set = np.concatenate(answers), np.concatenate(labels), np.concatenate(member).astype(np.int64)
        victim = self._features(found.victim, found.y[:rows], oracle.card.classes)
        return found.scores(self._recognised(attack_set, victim, found.y[:rows], rng), len(x))

    def _recognised(
        self, attack_set: tuple[Array, Labels, Labels], victim: Array, y: Labels, rng: np.random.Generator
    ) -> Array:
        """Trains the attack models; returns the probability of "in" for each answer of the victim, ``(n,)``.

        Args:
            attack_set: The shadow models' answers, ``(m, f)``; their true labels, ``(m,)``; 1 for "in", else 0.
            victim: The victim's answers, ``(n, f)``.
            y: Their true labels, ``(n,)``.
            rng: Source of all randomness.
        """
        answers, labels, member = attack_set
        mean, deviation = answers.mean(axis=0), answers.std(axis=0) + 1e-9
        answers, victim = ((part - mean) / deviation for part in (answers, victim))
        inside = np.full(len(victim), np.nan)
        for label in np.unique(y):
            attack = self._attack_model(answers[labels == label], member[labels == label], rng, f"class {label}")
            inside[y == label] = attack.predict(victim[y == label].astype(np.float32))[:, 1]
        return inside

    def _attack_model(self, answers: Array, member: Labels, rng: np.random.Generator, label: str) -> Network:
        """Trains the attack model of one class, which recognises members by their answers."""
        training = Training(
            self.attack_epochs, self.attack_batch, self.attack_lr, weight_decay=self.l2, schedule="constant"
        )
        model = Network.new(Mlp((64,)), answers.shape[1:], ("out", "in"), seed=new_seed(rng))
        return model.fit(answers.astype(np.float32), member, training, seed=new_seed(rng), label=label)

    def _features(self, answer: Answer, y: Labels, classes: int) -> Array:
        """Returns what the attack models see of each row, ``(n, 1)`` or ``(n, 1 + k)``."""
        odds = np.maximum(log_odds(answer, y, classes), LEAST)[:, None]
        if self.sees == "odds":
            return odds
        return np.column_stack([odds, np.maximum(log_probs(answer, classes), LEAST)])
