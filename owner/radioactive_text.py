"""Whether a suspect learnt from texts with a green-list mark, told by the texts that it writes itself.

Source: Sander, Fernandez, Durmus, Douze, Furon, "Watermarking Makes Language Models Radioactive", NeurIPS 2024,
sections 3 and 4: the closed model, whose own completions are tested, each pair of a token and the one before once.
A suspect that learnt marked texts writes more green tokens than 1/4 of them, even without a mark of its own.

What differs: suspects here begin with an empty prompt, not with the beginnings of marked texts, and no filter
keeps only the contexts that stood in what the suspect was told, since the owner need not have kept that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from defenses.watermarks.green_list import LEAST_KEY, Found, detect
from wire import BadInput
from wire.completions import CompletionOracle, Decoding
from zoo.language.tokens import Tokens


class Radioactivity(NamedTuple):
    """What a suspect's texts tell.

    Attributes:
        found: The test with the owner's key.
        wrong: The same test with keys that marked nothing.
        tokens: How many tokens of the suspect were read.
    """

    found: Found
    wrong: tuple[Found, ...]
    tokens: int


@dataclass(frozen=True)
class RadioactiveText:
    """Tests a suspect's own texts for the mark of those that it learnt from (NeurIPS 2024).

    Attributes:
        tokens: Tokens of the suspect to read.
        length: Most tokens of a text.
        at_once: Texts in a request.
        gamma: Share of the vocabulary that is green.
        wrong_keys: How many wrong keys are tried too.
    """

    tokens: int = 20_000
    length: int = 96
    at_once: int = 64
    gamma: float = 0.25
    wrong_keys: int = 20

    def __post_init__(self) -> None:
        if min(self.tokens, self.length, self.at_once) < 1 or self.wrong_keys < 0 or not 0 < self.gamma < 1:
            raise BadInput(f"{self}: numbers must be at least 1, and gamma lie between 0 and 1")

    def accuse(
        self, suspect: CompletionOracle, tokens: Tokens, key: bytes, rng: np.random.Generator
    ) -> Radioactivity:
        """Reads the suspect's texts as the owner's own tokens, and tests them.

        Raises:
            BadInput: It told no two tokens.
        """
        texts: list[list[int]] = []
        before = suspect.spent.completion
        while (read := suspect.spent.completion - before) < self.tokens:
            asked = Decoding(self.length, n=self.at_once, seed=int(rng.integers(2**31)))
            told = [tokens.encode(one.text) for each in suspect.collect([""], asked) for one in each]
            if not told:
                break
            texts += told
        wrong = tuple(detect(texts, rng.bytes(LEAST_KEY), len(tokens), self.gamma) for _ in range(self.wrong_keys))
        return Radioactivity(detect(texts, key, len(tokens), self.gamma), wrong, read)
