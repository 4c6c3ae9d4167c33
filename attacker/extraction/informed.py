"""The thief who knows the defence.

Source: Tang et al., "ModelGuard: Information-Theoretic Defense Against Model Extraction Attacks", USENIX Security
2024, section 7 (naive, top-1, smoothing, D-DAE, partial Bayes); Lukas et al., "SoK: How Robust is Image
Classification Deep Neural Network Watermarking?", S&P 2022 (training again without suspicious rows).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from attacker.asking import some
from attacker.extraction.imitations import IMITATIONS, Defence
from attacker.extraction.recovery import d_dae, likely, partial_bayes, smoothed_loss
from attacker.extraction.targets import targets
from attacker.surrogate import class_names, family_named, new_seed, numbers, own_model
from wire import Array, BadInput, Labels, Oracle
from zoo.data.pool import Pool
from zoo.network import Network
from zoo.training import Training


@dataclass(frozen=True)
class Informed:
    """A thief who expects a defence: recovers the victim's answers before a surrogate learns them (2024).

    Rows are drawn from the pool as by the random Knockoff. What was told is then changed:

    - none: learnt as it is, as by Knockoff;
    - top_1: only labels are learnt;
    - smoothing: labels are learnt, of which a share ``strength`` is expected to be wrong;
    - partial_bayes: the mean of shadow models' answers that the defence would change to something similar;
    - d_dae: a network learns to undo that change.

    The two shadow models learn the told labels of one half of the rows each, and answer about the other half, so
    nothing is queried for them. ``drop`` leaves out the rows whose answer a model of the other half contradicts
    the most: marks and flips, which a model that learnt them would repeat.

    Attributes:
        recover: How what was told is changed.
        expects: The defence that partial_bayes and d_dae expect.
        strength: Its parameter: standard deviation, digits, number of classes, share of rows, beta, l1 bound or
            confidence.
        copies: Times that each shadow answer is changed.
        drop: Share of rows that are left out.
        family: Family of the surrogate: softmax, logistic, mlp, cnn, resnet or torchvision.
        epochs: Passes over the answered rows.
        batch: Rows per step.
        lr: Learning rate of Adam, at its maximum.
    """

    recover: Literal["none", "top_1", "smoothing", "partial_bayes", "d_dae"] = "partial_bayes"
    expects: Literal[
        "noise", "rounding", "top_k", "flips", "reverse_sigmoid", "deceive", "bounded", "misinformation"
    ] = "noise"
    strength: float = 0.1
    copies: int = 5
    drop: float = 0.0
    family: str = "cnn"
    epochs: int = 30
    batch: int = 64
    lr: float = 4e-3

    def __post_init__(self) -> None:
        if not (0 <= self.drop < 1 and 0 < self.strength < np.inf and self.copies >= 1 and self.epochs >= 1):
            raise BadInput(
                f"{self}: drop must be at least 0 and less than 1, strength positive, copies and epochs at least 1"
            )
        if self.recover == "smoothing" and self.strength >= 1:
            raise BadInput(f"{self}: smoothing expects a share of wrong labels, less than 1")

    def extract(self, oracle: Oracle, pool: Pool, rng: np.random.Generator) -> Network:
        """Queries the pool, each row at most once, recovers the answers and trains; see :class:`Extraction`."""
        x = numbers(pool.x)[rng.permutation(len(pool))]
        answer = some(oracle, x)
        told, x = targets(answer, len(class_names(oracle.card))), x[: len(answer)]
        y = self._recovered(oracle, x, told, answer.labels, rng)
        if self.drop and len(x) >= 4:
            kept = likely(told, self._across(oracle, x, y, rng), self.drop)
            x, y = x[kept], y[kept]
        return self._trained(oracle, x, y, rng, "surrogate")

    def _recovered(self, oracle: Oracle, x: Array, told: Array, labels: Labels, rng: np.random.Generator) -> Array:
        if self.recover == "none":
            return told
        if self.recover in ("top_1", "smoothing") or len(x) < 4:
            return labels
        answers = self._across(oracle, x, labels, rng).repeat(self.copies, axis=0)
        expects: Defence = self.expects
        changed = IMITATIONS[expects](answers.astype(np.float64), self.strength, rng).astype(np.float32)
        if self.recover == "partial_bayes":
            return partial_bayes(told, answers, changed)
        return d_dae(told, answers, changed, seed=new_seed(rng))

    def _across(self, oracle: Oracle, x: Array, y: Array, rng: np.random.Generator) -> Array:
        """Returns the answers about each half of the rows by a model of the other half, ``(n, k)``."""
        halves, answers = np.arange(len(x)) % 2, list[Array]()
        for half in (0, 1):
            shadow = self._trained(oracle, x[halves == half], y[halves == half], rng, "shadow")
            answers.append(shadow.predict(x[halves != half]))
        joined = np.empty((len(x), answers[0].shape[1]), np.float32)
        joined[1::2], joined[::2] = answers
        return joined

    def _trained(self, oracle: Oracle, x: Array, y: Array, rng: np.random.Generator, label: str) -> Network:
        model = own_model(oracle.card, family_named(self.family), seed=new_seed(rng))
        loss = smoothed_loss(self.strength if self.recover == "smoothing" else 0.0)
        training = Training(self.epochs, self.batch, self.lr)
        return model.fit(x, y, training, seed=new_seed(rng), label=label, loss=loss)
