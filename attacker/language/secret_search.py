"""The likeliest secrets after a beginning, by a search through completions.

Source: Carlini, Liu, Erlingsson, Kos, Song, "The Secret Sharer: Evaluating and Testing Unintended Memorization in
Neural Networks", USENIX Security 2019, section 7.1: Dijkstra's algorithm on the tree of all secrets, whose edges
cost the negative log-probability of the next digit. Here several nodes are expanded in one request, and where a
bias of logits is allowed, digits alone compete.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from attacker.language.vocabulary import names, size
from wire import BadInput, Refused
from wire.completions import CompletionOracle, Decoding


class Guess(NamedTuple):
    """A secret.

    Attributes:
        digits: Its digits.
        logprob: Its log-probability, in nats, if digits follow.
    """

    digits: str
    logprob: float


@dataclass(frozen=True)
class SecretSearch:
    """The likeliest secrets after a beginning, likeliest first (USENIX Security 2019).

    Attributes:
        digits: Number of digits of a secret.
        guesses: Number of secrets to find.
        at_once: Number of beginnings in a request.
        bias: Bias that is added to the logits of digits.
    """

    digits: int = 6
    guesses: int = 10
    at_once: int = 16
    bias: float = 40.0

    def __post_init__(self) -> None:
        if min(self.digits, self.guesses, self.at_once) < 1 or not 0 <= self.bias <= 100:
            raise BadInput(f"{self}: numbers must be at least 1, and the bias lie between 0 and 100")

    def steal(
        self, oracle: CompletionOracle, beginnings: Sequence[str], rng: np.random.Generator
    ) -> list[list[Guess]]:
        """Searches after each beginning, such as ``"The number is "``, as long as the victim answers.

        Nothing is drawn from ``rng``.
        """
        lifted = self.lifted(oracle)
        return [self.search(oracle, beginning.rstrip(" "), lifted) for beginning in beginnings]

    def lifted(self, oracle: CompletionOracle) -> dict[int, float]:
        """Returns the bias of spaces and digits; none where the API does not name or lift tokens."""
        try:
            known = names(oracle, size(oracle))
        except Refused:
            return {}
        return {token: self.bias for token, name in enumerate(known) if re.fullmatch(" |[0-9]| [0-9]", name)}

    def search(self, oracle: CompletionOracle, beginning: str, lifted: Mapping[int, float]) -> list[Guess]:
        """Returns guesses in the order of their probability; fewer if the victim stops."""
        asked = Decoding(1, temperature=0, logprobs=oracle.top, logit_bias=lifted)
        found: list[Guess] = []
        heap = [(0.0, "")]  # of texts that continue the beginning, the cheapest first
        while heap and len(found) < self.guesses:
            nodes: list[tuple[float, str]] = []
            while heap and len(nodes) < self.at_once and not self._whole(heap[0][1]):
                nodes.append(heapq.heappop(heap))
            if not nodes:
                cost, text = heapq.heappop(heap)
                found.append(Guess(text.replace(" ", ""), -cost))
                continue
            told = oracle.collect([beginning + text for _, text in nodes], asked)
            for (cost, text), (one,) in zip(nodes, told, strict=False):
                for name, logprob in one.top[0].items():
                    if name and re.fullmatch("( [0-9])* ?", text + name):
                        heapq.heappush(heap, (cost - logprob, text + name))
            if len(told) < len(nodes):
                break
        return found

    def _whole(self, text: str) -> bool:
        return len(text) == 2 * self.digits  # a space before each digit
