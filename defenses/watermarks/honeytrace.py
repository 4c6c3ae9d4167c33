"""Neural Honeytrace: shifts the answers for inputs that resemble secret triggers towards a secret class.

Source: Xu, Fang, Wang, Zhou, Liu, Li, Tian, "Neural Honeytrace: Plug&Play Watermarking Framework against Model
Extraction Attacks", arXiv 2501.09328, and the authors' code (github.com/NeurHT/NeurHT). Nothing is trained:

1. Triggers are composites: images of one class with a corner of images of another (``triggers``).
2. The similarity s of an input to the triggers is measured on the victim's features, by the mean distance to the
   ten nearest triggers: from 1 (as near as triggers are to one another) to 0 (as far as all but a share of the
   pool).
3. If the victim is unsure of an input, s is raised to its fourth root, since mostly thieves send such inputs.
4. The logits are mixed, ``(1 - s^2) z + s^2 r``, with the logits r of the secret class; and with probability s^3,
   in steps of a tenth, they are r itself. So a copy learns the triggers' class gradually, from many inputs
   that are not triggers.

What differs: features are compared after a logistic function, and distances are taken relative to the pool, which
needs no constant for each model. The logits r are those of an answer that is ``sure`` of the secret class, not the
victim's mean ones. Classes and images of the triggers follow from a secret, so that nobody can pick them. Chance
follows from a key and the input, so repeating a query teaches nothing. The authors exchange the label of a wholly
replaced answer for the second one, to hide it; here it stays.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np

from defenses.answers.renormalised import needs_probabilities, probs_of, renormalised
from defenses.answers.row_noise import row_noise
from defenses.defense import Handler, Layer, Stage
from defenses.site import Site
from wire import Answer, Array, BadInput, Card, Query
from zoo.data.pool import Pool

NEAREST = 10  # triggers
FLOOR = 1e-7  # of a probability
STEPS = 10  # of the probability of a whole replacement


@dataclass(frozen=True)
class Honeytrace:
    """Neural Honeytrace: shifts the answers for inputs that resemble secret triggers towards a secret class.

    Each query costs another forward pass, for the victim's features.

    Attributes:
        triggers: File of the triggers (npz), all labelled with the secret class, as `prove mark-honeytrace` writes
            it; relative to the server's TOML file, or to the working directory.
        pool: File of labelled rows (npz) like those that customers send, likewise.
        share: Share of the pool that counts as similar at all.
        unsure: Largest probability below which the victim is unsure.
        sure: Probability of the secret class in a whole replacement.
    """

    triggers: Path
    pool: Path
    share: float = 0.05
    unsure: float = 0.5
    sure: float = 0.9

    stage: ClassVar[Stage] = Stage.WATERMARK

    def __post_init__(self) -> None:
        if not (0 < self.share < 1 and 0 <= self.unsure <= 1 and 0 < self.sure < 1):
            raise BadInput(f"honeytrace: share, unsure and sure must lie between 0 and 1, not {self}")

    def bind(self, site: Site) -> Layer:
        """Returns the layer that shifts answers."""
        return _Traced(self, site)

    def disclose(self, card: Card) -> Card:
        """Returns the card; the layer must stand inside top-k, rounding and label-only."""
        return needs_probabilities("honeytrace", card)

    def trace(self, triggers: Array, pool: Array, classes: int, target: int) -> Trace:
        """Returns what answers are changed by.

        Args:
            triggers: Features of the triggers, ``(t, d)``.
            pool: Features of the pool, ``(n, d)``.
            classes: Number of classes.
            target: The secret class.

        Raises:
            BadInput: There are too few triggers.
        """
        if len(triggers) <= NEAREST:
            raise BadInput(f"honeytrace: {len(triggers)} triggers; expected more than {NEAREST}")
        near = np.median(nearness(triggers, triggers, itself=True))
        far = np.quantile(nearness(pool, triggers), self.share)
        r = np.full(classes, (1 - self.sure) / (classes - 1))
        r[target] = self.sure
        return Trace(triggers, float(min(near, 0.99 * far)), float(far), np.log(r), self.unsure)


@dataclass(frozen=True, eq=False)
class Trace:
    """The triggers, and the distances and logits by which answers are changed.

    Attributes:
        triggers: Features of the triggers, ``(t, d)``.
        near: Distance from them at which the similarity is 1.
        far: Distance at which it is 0.
        reference: Logits of the secret class, ``(k,)``.
        unsure: Largest probability below which the victim is unsure.
    """

    triggers: Array
    near: float
    far: float
    reference: Array
    unsure: float

    def similarity(self, features: Array, probs: Array) -> Array:
        """Returns the similarity to the triggers, ``(n,)`` from 0 to 1."""
        s = np.clip((self.far - nearness(features, self.triggers)) / (self.far - self.near), 0, 1)
        return np.asarray(np.where(probs.max(axis=1) < self.unsure, s**0.25, s))

    def leaned(self, probs: Array, s: Array, chance: Array) -> Answer:
        """Returns the answer, shifted towards the secret class.

        Args:
            probs: The victim's probabilities, ``(n, k)``.
            s: The similarity of each row, ``(n,)``.
            chance: A number from 0 to 1 for each row, ``(n,)``, which decides whether the answer is replaced.
        """
        z, weight = np.log(np.maximum(probs.astype(np.float64), FLOOR)), np.square(s)[:, None]
        whole = chance < np.floor(s**3 * STEPS) / STEPS
        z = np.where(whole[:, None], self.reference, (1 - weight) * z + weight * self.reference)
        changed = renormalised(np.exp(z - z.max(axis=1, keepdims=True)))
        same = s == 0
        assert changed.probs is not None
        return Answer(
            np.where(same, probs.argmax(axis=1), changed.labels), np.where(same[:, None], probs, changed.probs)
        )


def nearness(features: Array, triggers: Array, itself: bool = False) -> Array:
    """Returns the mean distance of each row from its ten nearest triggers, ``(n,)``.

    Args:
        features: Features of rows, ``(n, d)``.
        triggers: Features of the triggers, ``(t, d)``.
        itself: Whether the rows are the triggers, so that the nearest one, the row itself, does not count.
    """
    far = np.stack([np.abs(row - triggers).mean(axis=1) for row in features])
    return np.asarray(np.sort(far, axis=1)[:, itself : NEAREST + itself].mean(axis=1))


def triggers(pool: Pool, secret: str, count: int) -> Pool:
    """Returns triggers, all labelled with the secret class: composites of two other classes.

    Args:
        pool: Labelled images, ``(n, c, h, w)``, of at least three classes.
        secret: The secret, in hexadecimal, from which classes and images follow.
        count: Number of triggers.

    Raises:
        BadInput: The rows are no labelled images of three classes.
    """
    if pool.y is None or pool.x.ndim != 4 or len(set(pool.y.tolist())) < 3:
        raise BadInput("honeytrace: triggers are made of labelled images of at least three classes")
    rng = np.random.default_rng([int(secret, 16), *b"honeytrace"])
    one, other, target = rng.permutation(np.unique(pool.y))[:3]
    below, beside = (rng.choice(np.flatnonzero(pool.y == of), count) for of in (one, other))
    x, (height, width) = pool.x[below].copy(), pool.x.shape[2:]
    x[:, :, height // 2 :, width // 2 :] = pool.x[beside][:, :, height // 2 :, width // 2 :]
    return replace(pool, x=x, y=np.full(count, target, np.int64))


class _Traced:
    def __init__(self, settings: Honeytrace, site: Site) -> None:
        self._settings, self._site = settings, site

    async def start(self) -> None:
        """Reads the files, and computes the features of triggers and pool.

        Raises:
            BadInput: A file is broken or does not fit, or the victim has no features.
        """
        settings, companions = self._settings, self._site.companions
        marks, pool = [await asyncio.to_thread(Pool.load, path) for path in (settings.triggers, settings.pool)]
        if marks.y is None or len(set(marks.y.tolist())) != 1 or marks.y[0] >= self._site.card.classes:
            raise BadInput(f"honeytrace: {settings.triggers}: expected triggers of one class of the victim's")
        activations = await companions.activations(pool.x)
        above = await companions.activation_bits(np.median(activations, axis=0).astype(np.float32))
        self._describe = above
        known, of = [(await above(rows.x))[:, 1] for rows in (marks, pool)]
        make = partial(settings.trace, known, of, self._site.card.classes, int(marks.y[0]))
        self._trace = await asyncio.to_thread(make)

    async def __call__(self, query: Query, handle: Handler) -> Answer:
        """Answers, and shifts the answer."""
        answer = await handle(query)
        probs, features = probs_of(answer), (await self._describe(query.x))[:, 1]
        chance = row_noise(self._site.secret, query.x, 1, self._site.grid)[:, 0]
        return self._trace.leaned(probs, self._trace.similarity(features, probs), chance)
