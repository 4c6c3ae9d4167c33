"""Noise on an encoder's embeddings that grows with the part of their space that an account has seen.

Source: Dubiński, Pawlak, Boenisch, Trzciński, Dziedzic, "Bucks for Buckets (B4B): Active Defenses Against Stealing
Encoders", NeurIPS 2023: sections 3.2 (coverage by buckets of a locality-sensitive hash), 3.3 (the cost function)
and 3.4 (a transformation per account). An account that works on one task sees a small part of the space; a thief
sees much of it.

Three things differ. The paper draws fresh noise, which averages out when a row is asked about again and again;
here it is a function of the row, the account and the level of coverage. Coverage counts in steps of 1/32, so to
ask about a row at every later level too takes less than a quarter of its noise away: by the default cost,
successive levels differ by a factor of 1.7. Noise is a share of the size of the row's own embedding, and
transformations keep lengths and angles, so an honest account may still compare its embeddings by cosine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import blake2b
from typing import ClassVar, Literal

import numpy as np
from scipy.special import ndtri

from defenses.answers.row_noise import row_noise
from defenses.defense import Handler, Layer, Stage
from defenses.detectors.detector import Alarm
from defenses.monitoring.monitor import Consequence, Monitor
from defenses.monitoring.records import entry
from defenses.site import Site
from wire import Answer, Array, BadInput, Card, Labels, Query

LEVELS = 32
MOST = 10.0  # times its size, an embedding's noise: more would tell no less
_ACCOUNTS = 64  # whose transformations are kept in memory


@dataclass
class Coverage:
    """The buckets that an account's embeddings have fallen into.

    Attributes:
        rows: How many rows it sent.
        seen: Which buckets they fell into, ``(2**bits,)`` bool.
        alarm: None; this state raises none.
    """

    rows: int
    seen: Array
    alarm: Alarm | None = None

    @property
    def nbytes(self) -> int:
        """The memory that it takes."""
        return self.seen.nbytes

    @property
    def share(self) -> float:
        """The share of all buckets, in steps of 1/32, rounded down."""
        return math.floor(LEVELS * float(self.seen.mean())) / LEVELS


@dataclass(frozen=True)
class B4b:
    """Adds noise to embeddings that grows with the share of their space that the account has seen (NeurIPS 2023).

    The standard deviation of the noise is ``weight (exp(ln(alpha / weight) c / beta) - 1)``, at most 10, for
    coverage c, the share of the ``2**bits`` buckets that the account's embeddings have fallen into, those of the
    request itself included.

    Attributes:
        bits: Number of random planes, whose sides make the buckets.
        weight: Weight of the cost function, the paper's lambda.
        alpha: Noise at the coverage ``beta``, as a share of the embedding's root mean square.
        beta: The coverage at which an account counts as a thief's.
        transform: What each account's embeddings go through: a random rotation of its own, a permutation with
            random signs, or nothing. Accounts that share a theft have to undo it.
    """

    bits: int = 12
    weight: float = 1e-6
    alpha: float = 0.8
    beta: float = 0.8
    transform: Literal["rotation", "shuffle", "none"] = "rotation"

    stage: ClassVar[Stage] = Stage.NOISE
    embeddings: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 16:
            raise BadInput(f"b4b: bits must lie between 1 and 16, not {self.bits}")
        if not (0 < self.weight < self.alpha < math.inf and 0 < self.beta <= 1):
            given = f"{self.weight}, {self.alpha} and {self.beta}"
            raise BadInput(f"b4b: expected 0 < weight < alpha and 0 < beta <= 1, not {given}")

    def bind(self, site: Site) -> Layer:
        """Returns the layer, whose planes and transformations come of the site's key."""
        return _Guarded(self, site)

    def disclose(self, card: Card) -> Card:
        """Returns the card; what an account has seen is not told."""
        return card

    def deviation(self, coverage: float) -> float:
        """Returns the standard deviation of the noise at a coverage, in units of the embedding."""
        exponent = math.log(self.alpha / self.weight) * coverage / self.beta
        return self.weight * math.expm1(min(exponent, math.log1p(MOST / self.weight)))

    def buckets(self, planes: Array, embeddings: Array) -> Array:
        """Returns the bucket of each embedding, as two bytes, ``(n, 2)`` uint8.

        Args:
            planes: Normals of the planes, ``(d, bits)``.
            embeddings: ``(n, d)``.
        """
        sides = embeddings.astype(np.float64) @ planes > 0
        numbers = sides @ (1 << np.arange(self.bits))
        return np.stack([numbers >> 8, numbers & 255], axis=1).astype(np.uint8)

    def begin(self) -> Coverage:
        """Returns the state of an account that has seen nothing."""
        return Coverage(0, np.zeros(2**self.bits, bool))

    def observe(self, state: Coverage, rows: Array, labels: Labels) -> Coverage:
        """Folds more buckets, ``(n, 2)`` uint8, into a state (:meth:`~.detector.Detector.observe`)."""
        state.seen[rows[:, 0].astype(np.int64) * 256 + rows[:, 1]] = True
        state.rows += len(labels)
        return state


class _Guarded:
    """The running layer; a monitor keeps the coverage of each account, in the log of the store."""

    def __init__(self, settings: B4b, site: Site) -> None:
        self._settings, self._site = settings, site
        self._monitor = Monitor(settings, "b4b", Consequence(), site)
        self._transform = lru_cache(_ACCOUNTS)(self._drawn)

    @cached_property
    def _planes(self) -> Array:
        return _normal(self._key("planes"), self._site.card.embedding, self._settings.bits)

    async def __call__(self, query: Query, handle: Handler) -> Answer:
        """Answers after the buckets are in the account's log."""
        told = (await handle(query)).embeddings
        if told is None:
            raise ValueError("the model inside answers no embeddings")
        record = entry(self._settings.buckets(self._planes, told), np.zeros(len(told), int), query.idempotency_key)
        account = self._monitor.account(query.account)
        await account.take(record)
        seen: Coverage = account.state  # type: ignore[assignment]
        embeddings = told.astype(np.float64)
        if deviation := self._settings.deviation(seen.share):
            key = self._key(f"noise/{seen.share}/{query.account}")
            size = np.sqrt((embeddings**2).mean(axis=1, keepdims=True))
            noise = ndtri(row_noise(key, query.x, told.shape[1], self._site.grid))
            embeddings = embeddings + deviation * size * noise
        if self._settings.transform != "none":
            embeddings = embeddings @ self._transform(query.account)
        return Answer.of_embeddings(embeddings)

    def _drawn(self, account: str) -> Array:
        """Draws an account's transformation, ``(d, d)`` orthogonal."""
        d = self._site.card.embedding
        normal = _normal(self._key(f"transform/{account}"), d, d)
        if self._settings.transform == "shuffle":
            shuffle: Array = np.eye(d)[normal[0].argsort()] * np.sign(normal[1])
            return shuffle
        q, r = np.linalg.qr(normal)
        rotation: Array = q * np.sign(np.diag(r))
        return rotation

    def _key(self, use: str) -> bytes:
        return blake2b(use.encode(), key=self._site.secret, digest_size=32).digest()


def _normal(key: bytes, rows: int, columns: int) -> Array:
    """Draws numbers from a standard normal distribution by a key, ``(rows, columns)``."""
    drawn: Array = ndtri(row_noise(key, np.arange(rows)[:, None], columns))
    return drawn
