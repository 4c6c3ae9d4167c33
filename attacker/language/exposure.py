"""The likelihoods of a secret and of others of its form, by which its exposure is measured.

Source: Carlini, Liu, Erlingsson, Kos, Song, "The Secret Sharer: Evaluating and Testing Unintended Memorization in
Neural Networks", USENIX Security 2019, sections 4.2 to 4.4. The log-perplexity of a sequence s[r], that is, of the
format s with the randomness r, is read off the echo of a prompt; that of the format's beginning is the same for
every r. The exposure is log2 |R| less the logarithm of r's rank, which a sample of R estimates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from attacker.asking import NothingAnswered
from wire import Array, BadInput
from wire.completions import CompletionOracle, Decoding


class Likelihoods(NamedTuple):
    """Log-likelihoods, in nats.

    Attributes:
        secrets: Those of the sequences that are suspected, ``(k,)``; NaN where the victim did not answer.
        others: Those of randomly drawn sequences that it answered, ``(m,)``.
    """

    secrets: Array
    others: Array


@dataclass(frozen=True)
class Exposure:
    """Likelihoods of suspected secrets among random ones of the same form (USENIX Security 2019).

    Attributes:
        sample: Number of random secrets to compare with.
        digits: Number of digits of a secret.
    """

    sample: int = 1000
    digits: int = 6

    def __post_init__(self) -> None:
        if self.sample < 1 or self.digits < 1:
            raise BadInput(f"{self}: expected at least one other secret, and one digit")

    def steal(
        self, oracle: CompletionOracle, form: str, secrets: Sequence[str], rng: np.random.Generator
    ) -> Likelihoods:
        """Asks for the likelihood of each sequence.

        Args:
            oracle: The victim.
            form: The format, with ``{}`` in place of the secret.
            secrets: The secrets that are suspected, each of digits.
            rng: Draws the others.

        Raises:
            BadInput: A secret has another number of digits.
            Refused: The API does not echo.
            NothingAnswered: It answered about no other secret.
        """
        if (wrong := next((one for one in secrets if len(one) != self.digits), None)) is not None:
            raise BadInput(f"the secret {wrong!r} has {len(wrong)} digits; expected {self.digits}")
        drawn = rng.integers(0, 10, (self.sample, self.digits))
        randoms = ["".join(map(str, row)) for row in drawn.tolist()]
        found = log_likelihoods(oracle, [form.format(spaced(digits)) for digits in (*secrets, *randoms)])
        if len(found) <= len(secrets):
            raise NothingAnswered(f"no other secret's likelihood was told: {oracle.ended}")
        return Likelihoods(found[: len(secrets)], found[len(secrets) :])


def spaced(digits: str) -> str:
    """Returns digits as words: each is a token of its own."""
    return " ".join(digits)


def log_likelihoods(oracle: CompletionOracle, texts: Sequence[str]) -> Array:
    """Returns the log-likelihood of each text after its first token, ``(m,)``, as far as the victim answers."""
    told = oracle.collect(texts, Decoding(0, logprobs=0, echo=True))
    return np.array([sum(value for value in one.logprobs if value is not None) for (one,) in told])
