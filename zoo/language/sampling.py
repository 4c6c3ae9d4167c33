"""Sampling: draws the next token from its logits, and computes the log-probabilities of an answer.

Source of top-p: Holtzman, Buys, Du, Forbes, Choi, "The Curious Case of Neural Text Degeneration", ICLR 2020.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from wire import Array

Change = Callable[[Sequence[int], Array], Array]
"""From a text's tokens so far, ``END`` before them, and the logits of the next, ``(v,)`` float64, to others."""


@dataclass(frozen=True)
class Sampling:
    """How a text is continued.

    Attributes:
        max_tokens: Most tokens to add.
        temperature: Divides the logits; 0 takes the likeliest token.
        top_p: The least set of likeliest tokens with this probability is drawn from.
        seed: Seed of the draws.
        logprobs: Of how many likeliest tokens the log-probability is told; None tells none at all.
        echo: Whether the prompt's own tokens are told, with their log-probabilities.
        logit_bias: What is added to the logits of tokens.
        changes: Change the logits before the bias is added, one after the other.
    """

    max_tokens: int = 16
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    logprobs: int | None = None
    echo: bool = False
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    changes: tuple[Change, ...] = ()


class Told(NamedTuple):
    """A token that is told.

    Attributes:
        token: The token.
        logprob: Its log-probability in nats, after the bias and at temperature 1; None if it is not told.
        top: The likeliest tokens with theirs, likeliest first.
        finish: Why it is the last; None if it is not. ``stop``: it ends the text, and is itself not part of it.
    """

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()
    finish: Literal["stop", "length"] | None = None


def drawn(scores: Array, temperature: float, top_p: float, rng: np.random.Generator) -> int:
    """Draws a token by log-probabilities, ``(v,)``, at a temperature, among the likeliest of probability top-p."""
    if not temperature:
        return int(scores.argmax())
    with np.errstate(over="ignore"):  # at a temperature near 0, all but the likeliest are impossible
        heated = (scores - scores.max()) / temperature
    probs = np.exp(heated)
    probs /= probs.sum()
    order = np.argsort(-probs, kind="stable") if top_p < 1 else np.arange(len(probs))
    sums = probs[order].cumsum()
    kept = int(np.searchsorted(sums, top_p * sums[-1])) + 1 if top_p < 1 else len(order)
    at = np.searchsorted(sums[:kept], rng.random() * sums[kept - 1], side="right")
    return int(order[min(int(at), kept - 1)])
