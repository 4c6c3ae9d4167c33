"""Gaussian noise on the told probabilities, the same for the same row.

Noise that is drawn anew for each query averages away when the row is asked again. Here it is a function of the
row and a secret, so asking twice teaches nothing more.

Source: perturbing confidences with noise is the oldest defence of a prediction API (Tramer et al., USENIX Security
2016, section 7 discuss it); deriving it from a keyed hash of the query follows DAWN (Szyller et al., ACM MM 2021,
section 4.2), which derives its decisions so.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
from scipy.special import ndtri

from defenses.defense import Handler
from wire import Answer, Array, BadInput, Card, Query

_WORDS = 16  # 32-bit words of one BLAKE2b digest


@dataclass(frozen=True)
class GaussianNoise:
    """Adds noise to each probability, cuts off what is negative and normalises; the label follows.

    Attributes:
        sigma: Standard deviation of the noise, in units of probability.
        secret: Key of the noise, 16 to 64 bytes.
    """

    sigma: float
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not self.sigma > 0:
            raise BadInput(f"gaussian_noise: sigma must be positive, not {self.sigma}")

    async def __call__(self, query: Query, handle: Handler) -> Answer:
        """Answers with noise."""
        answer = await handle(query)
        if answer.probs is None:
            return answer
        return self.perturb(query.x, answer.probs)

    def perturb(self, x: Array, probs: Array) -> Answer:
        """Adds the noise of the rows ``x``, ``(n, ...)``, to their probabilities ``(n, k)``."""
        noised = probs + self.sigma * keyed_normal(self.secret, x, probs.shape[1])
        labels = np.nanargmax(noised, axis=1).astype(np.int64)
        noised = np.maximum(noised, 0)
        lost = np.nansum(noised, axis=1) == 0  # everything was cut off: only the label is left to tell
        noised[lost, labels[lost]] = 1
        return Answer(labels, (noised / np.nansum(noised, axis=1, keepdims=True)).astype(np.float32))

    def disclose(self, card: Card) -> Card:
        """Leaves the card as it is."""
        if not card.tells_probs:
            raise BadInput("gaussian_noise: the layers inside tell labels alone, which this noise cannot change")
        return card


def keyed_normal(secret: bytes, x: Array, k: int) -> Array:
    """Returns standard normal numbers, ``(n, k)``, each row a function of the secret and the row of ``x`` alone.

    Equal rows give equal numbers, however their zeros are signed. The uniform numbers behind them are words of
    BLAKE2b digests keyed with the secret.
    """
    if not len(x):
        return np.empty((0, k))
    rows = np.ascontiguousarray(x + x.dtype.type(0)).reshape(len(x), -1)  # -0.0 becomes 0.0
    digests = []
    for row in rows:
        seed = hashlib.blake2b(row.tobytes(), key=secret).digest()
        blocks = [
            hashlib.blake2b(block.to_bytes(4, "little"), key=seed).digest() for block in range(-(-k // _WORDS))
        ]
        digests.append(b"".join(blocks))
    words = np.frombuffer(b"".join(digests), "<u4").reshape(len(rows), -1)[:, :k]
    return np.asarray(ndtri((words + 0.5) / 2.0**32))
