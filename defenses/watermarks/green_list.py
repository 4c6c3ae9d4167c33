"""The green-list watermark of a language model, and the test that finds it in a text.

Source: Kirchenbauer, Geiping, Wen, Katz, Miers, Goldstein, "A Watermark for Large Language Models", ICML 2023,
algorithm 2 (the soft red list), equation 3 (the z-score) and section 5 (a private key). The token before seeds a
random division of the vocabulary V into a green list of gamma |V| tokens and a red one, and delta is added to the
logits of green tokens.

The list is a keyed hash of the previous token alone, so that no worker has a state, and a key file is all that a
test needs. As the paper advises against repetitions, each pair of a token and the one before is scored once.
Log-probabilities are told with the mark in them. At temperature 0 a text has less of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
from scipy.special import bdtrc

from defenses.answers.row_noise import row_noise
from defenses.defense import Stage
from defenses.generation import Completion, Generate, GenerationLayer, GenerationSite, Offer, Prompt
from wire import Array, BadInput
from wire.files import read_bytes

MOST_KEY = 64  # bytes
LEAST_KEY = 16


def read_key(path: Path) -> bytes:
    """Reads a key, or raises :class:`~wire.BadInput`."""
    try:
        key = read_bytes(path, MOST_KEY)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}; make a key with: head -c 32 /dev/urandom > {path}") from None
    if len(key) < LEAST_KEY:
        raise BadInput(f"{path} has {len(key)} bytes; a key has {LEAST_KEY} to {MOST_KEY} random ones")
    return key


def green(key: bytes, previous: int, v: int, gamma: float) -> Array:
    """Returns which of v tokens are green after a token: ``(v,)`` bool, of which ``round(gamma v)`` are true."""
    numbers = row_noise(key, np.array([str(previous)], object), v)[0]
    listed = np.zeros(v, bool)
    listed[numbers.argsort(kind="stable")[: round(gamma * v)]] = True
    return listed


@dataclass(frozen=True)
class GreenList:
    """Makes the tokens of a keyed list, which the token before chooses, likelier: a mark in every text.

    Attributes:
        key: File of the key, relative to the server's TOML file: 16 to 64 random bytes.
        delta: What is added to the logits of green tokens.
        gamma: Share of the vocabulary that is green.
    """

    key: Path
    delta: float = 2.0
    gamma: float = 0.25

    stage: ClassVar[Stage] = Stage.WATERMARK

    def __post_init__(self) -> None:
        if not (0 < self.delta < math.inf and 0 < self.gamma < 1):
            raise BadInput(
                f"green_list: delta must be positive and finite and gamma between 0 and 1, not {self.delta} "
                f"and {self.gamma}"
            )

    def bind(self, site: GenerationSite) -> GenerationLayer:
        """Returns the layer that marks; reads the key."""
        listed = lru_cache(4096)(partial(green, read_key(self.key)))

        def marked(ids: Sequence[int], logits: Array) -> Array:
            return logits + self.delta * listed(ids[-1], len(logits), self.gamma)

        async def layer(prompt: Prompt, handle: Generate) -> Completion:
            return await handle(prompt.changing(marked))

        return layer

    def disclose(self, offer: Offer) -> Offer:
        """Returns what is offered; the mark is not disclosed."""
        return offer


class Found(NamedTuple):
    """How much of a mark was found.

    Attributes:
        pairs: Number T of distinct pairs of a token and the one before.
        green: How many of them are green.
        z: The z-score: normally distributed around 0 without the mark, with deviation 1.
        p: The probability of as many green pairs without the mark, by the binomial distribution.
    """

    pairs: int
    green: int
    z: float
    p: float


def detect(texts: Iterable[Sequence[int]], key: bytes, v: int, gamma: float = 0.25) -> Found:
    """Tests texts, each a sequence of tokens, for the mark of a key.

    Raises:
        BadInput: They have no pair of tokens.
    """
    pairs = {pair for ids in texts for pair in pairwise(ids)}
    if not pairs:
        raise BadInput("no text has two tokens, so there is nothing to test")
    lists = {previous: green(key, previous, v, gamma) for previous, _ in pairs}
    hits, share = sum(bool(lists[previous][token]) for previous, token in pairs), round(gamma * v) / v
    z = (hits - share * len(pairs)) / math.sqrt(len(pairs) * share * (1 - share))
    return Found(len(pairs), hits, z, float(bdtrc(hits - 1, len(pairs), share)))
