"""MemGuard: noise that makes a classifier of members as unsure as a coin.

Source: Jia, Salem, Backes, Zhang, Gong, "MemGuard: Defending against Black-Box Membership Inference Attacks via
Adversarial Examples", ACM CCS 2019, sections 4.1 (the classifier), 4.2 (phase I, which finds the noise) and 4.3
(phase II, which adds it with a probability that keeps the mean distortion). The paper weighs the noise's size in
phase I; here the descent ends at the first noise that turns the classifier. The coin of phase II is keyed by the
row.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from scipy.special import softmax

from defenses.answers.renormalised import needs_probabilities, probs_of
from defenses.answers.row_noise import row_noise
from defenses.defense import Handler, Layer, Stage
from defenses.site import Site
from wire import Answer, Array, BadInput, Card, Query

if TYPE_CHECKING:
    from zoo.model import Model
    from zoo.network import Network

LEAST = 1e-7  # of a probability whose logarithm is taken
MARGIN = 1e-3  # by which the label's logit stays the greatest


@dataclass(frozen=True)
class MemGuard:
    """Changes probabilities so that they do not tell members; the label stays (CCS 2019).

    Attributes:
        folder: Folder of the classifier (:func:`train_classifier`), relative to the server's TOML file, or to the
            working directory.
        budget: Mean of the sum of absolute changes of a row's probabilities, at most; from 0 to 2.
        steps: Steps of the descent.
        rate: Length of a step, in logits.
    """

    folder: Path
    budget: float = 1.0
    steps: int = 100
    rate: float = 0.1

    stage: ClassVar[Stage] = Stage.NOISE

    def __post_init__(self) -> None:
        if not 0 <= self.budget <= 2 or self.steps < 1 or not self.rate > 0:
            raise BadInput(f"memguard: budget must lie between 0 and 2, steps and rate be positive, not {self}")

    def bind(self, site: Site) -> Layer:
        """Returns the layer that changes probabilities."""
        return _Guarding(self, site)

    def disclose(self, card: Card) -> Card:
        """Returns the card; the layer must stand inside top-k, rounding and label-only."""
        return needs_probabilities("memguard", card)

    def noised(self, classifier: Network, probs: Array) -> tuple[Array, Array]:
        """Returns noisy probabilities, ``(n, k)``, and with which probability each row tells them, ``(n,)``.

        Args:
            classifier: Tells members by their sorted probabilities.
            probs: Probabilities, ``(n, k)``.
        """
        order = np.argsort(-probs, axis=1, kind="stable")
        sorted_ = np.take_along_axis(probs, order, axis=1).astype(np.float64)
        logits = np.log(np.maximum(sorted_, LEAST))
        before = _membership(classifier, sorted_)
        side = np.sign(before)
        for _ in range(self.steps):
            p = softmax(logits, axis=1)
            certain = side * _membership(classifier, p) > 0
            if not certain.any():
                break
            towards = _gradient(classifier, p) * side[:, None]
            change = p * (towards - (towards * p).sum(axis=1, keepdims=True))
            step = change / np.maximum(np.abs(change).max(axis=1, keepdims=True), 1e-30)
            logits = np.where(certain[:, None], logits - self.rate * step, logits)
            logits[:, 0] = np.maximum(logits[:, 0], logits[:, 1:].max(axis=1) + MARGIN)
        p = softmax(logits, axis=1)
        size = np.abs(p - sorted_).sum(axis=1)
        helps = np.abs(_membership(classifier, p)) < np.abs(before)
        noisy = np.empty_like(p)
        np.put_along_axis(noisy, order, p, axis=1)
        return noisy.astype(np.float32), helps * np.minimum(1, self.budget / np.maximum(size, LEAST))


class _Guarding:
    def __init__(self, guard: MemGuard, site: Site) -> None:
        self._guard, self._site = guard, site
        self._classifier: Network | None = None

    async def start(self) -> None:
        """Loads the classifier; raises :class:`~wire.BadInput` if it is invalid or takes other rows."""
        self._classifier = await asyncio.to_thread(_loaded, self._guard.folder, self._site.card.classes)

    async def __call__(self, query: Query, handle: Handler) -> Answer:
        """Answers, with noise."""
        if self._classifier is None:
            await self.start()
        assert self._classifier is not None
        answer = await handle(query)
        probs = probs_of(answer)
        noisy, share = await asyncio.to_thread(self._guard.noised, self._classifier, probs)
        coin = row_noise(self._site.secret, query.x, 1, self._site.grid)[:, 0]
        return Answer(answer.labels, np.where((coin < share)[:, None], noisy, probs))


def train_classifier(victim: Model, members: Array, others: Array, *, seed: int, epochs: int = 100) -> Network:
    """Trains the classifier that the noise has to deceive: one hidden layer on the victim's sorted probabilities.

    Args:
        victim: The victim.
        members: Rows that it was trained on, ``(n, *input_shape)``.
        others: Rows that it was not, ``(m, *input_shape)``.
        seed: Seed of the classifier.
        epochs: Passes.
    """
    from zoo.families.mlp import Mlp  # deferred: torch
    from zoo.network import Network
    from zoo.training import Training

    probs = victim.predict(np.concatenate([members, others]))
    x = -np.sort(-probs, axis=1)
    y = np.repeat([1, 0], [len(members), len(others)])
    network = Network.new(Mlp((64,)), x.shape[1:], ("out", "in"), seed=seed)
    return network.fit(x, y, Training(epochs, lr=1e-2), seed=seed, label="classifier")


def _loaded(path: Path, classes: int) -> Network:
    from zoo import folder  # deferred: torch

    network = folder.load(path).network()
    if network.input_shape != (classes,) or network.classes != 2:
        raise BadInput(
            f"memguard: {path} maps {network.input_shape} to {network.classes} classes; expected a classifier of "
            f"({classes},) probabilities with 2"
        )
    return network


def _membership(classifier: Network, p: Array) -> Array:
    """Returns the logarithm of the odds of a member, ``(n,)``, by sorted probabilities."""
    logits = classifier.logits(p.astype(np.float32)).astype(np.float64)
    return np.asarray(logits[:, 1] - logits[:, 0])


def _gradient(classifier: Network, p: Array) -> Array:
    """Returns the gradient of :func:`_membership` with respect to the probabilities, ``(n, k)``."""
    rows, labels = p.astype(np.float32), np.ones(len(p), np.int64)
    return np.asarray(classifier.gradient(rows, labels) - classifier.gradient(rows, 1 - labels), np.float64)
