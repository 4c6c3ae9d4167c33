"""Whether a suspect learnt from texts with a green-list mark, told by the texts that it writes itself.

Source: Sander, Fernandez, Durmus, Douze, Furon, "Watermarking Makes Language Models Radioactive", NeurIPS 2024,
sections 3 and 4: the closed model, whose own completions are tested, each pair of a token and the one before once.
A suspect that learnt marked texts writes more green tokens than 1/4 of them, even without a mark of its own.

What differs: suspects here begin with an empty prompt, not with the beginnings of marked texts, and no filter
keeps only the contexts that stood in what the suspect was told, since the owner need not have kept that. The
owner's key must also stand out among wrong keys that follow from the same commitment; the larger p-value counts.

The mark tells that a suspect learnt marked texts, not who had it learn them. Whoever buys marked texts can tune
another's model on them (DITTO, EACL 2026), so a judge asks for more (:mod:`owner.text_judge`).
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from defenses.watermarks.green_list import Found, detect
from owner.evidence import Evidence
from owner.one_more import beyond
from owner.scheme_key import Rule, SchemeKey
from wire import BadInput
from wire.completions import CompletionOracle, Decoding
from zoo.language.tokens import Tokens

LEAST = 3  # wrong keys
NAME = "radioactive-text"
CAUTION = (
    "The mark tells that the suspect learnt texts of the marked model, not that its operator bought them: a model "
    "of somebody else's can be tuned on such texts to frame him."
)


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

    @property
    def p(self) -> float:
        """The larger of the binomial p-value and that of the owner's key among the wrong ones."""
        return max(self.found.p, beyond(self.found.z, [each.z for each in self.wrong]).p)


@dataclass(frozen=True)
class TextMark:
    """How much of the owner's mark is in a suspect's own texts.

    Attributes:
        tokens: Tokens of the suspect that were read.
        pairs: Distinct pairs of a token and the one before.
        green: How many of them are green.
        z: The z-score with the owner's key.
        p_binomial: Its p-value without a mark.
        wrong: The z-scores with wrong keys.
        commitments: Number of the owner's commitments, which multiplies the p-value.
    """

    unit: ClassVar[str] = "tokens"

    tokens: int
    pairs: int
    green: int
    z: float
    p_binomial: float
    wrong: tuple[float, ...]
    commitments: int = 1

    def describe(self, verdict: str) -> list[str]:
        """Returns the measurements and the next step, as lines."""
        return [
            f"{self.green:,} of {self.pairs:,} distinct pairs are green: z {self.z:.2f}, "
            f"p = {self.p_binomial:.3g}",
            f"{len(self.wrong)} wrong keys: z {np.mean(self.wrong):.2f} +- {np.std(self.wrong):.2f}, at most "
            f"{max(map(abs, self.wrong)):.2f}",
            f"the larger p counts, times the number of commitments in the log, {self.commitments}",
            "next: give the evidence, the key's folder and the tokens to a judge (judge-text)",
        ]


@dataclass(frozen=True, eq=False)
class MarkedText:
    """The owner's holdings.

    Attributes:
        vocabulary: The marked model's tokens.
        key: The key from which the mark follows.
    """

    vocabulary: Tokens
    key: SchemeKey

    def check(self) -> None:
        """Raises :class:`~wire.BadInput` if the tokens are not those of the key."""
        self.key.rule.check(NAME, files_of(self.vocabulary))


def files_of(vocabulary: Tokens) -> dict[str, str]:
    """Returns what the key of a mark binds: SHA-256 of the tokens, in hexadecimal."""
    return {"tokens": hashlib.sha256(vocabulary.written()).hexdigest()}


def new_key(vocabulary: Tokens, gamma: float, secret: str) -> SchemeKey:
    """Makes the key of a mark: its seed is the key of the layer ``green_list``."""
    return SchemeKey(secret, Rule(NAME, {"gamma": gamma}, files_of(vocabulary)))


@dataclass(frozen=True)
class RadioactiveText:
    """Tests a suspect's own texts for the mark of those that it learnt from (NeurIPS 2024).

    Attributes:
        tokens: Tokens of the suspect to read.
        length: Most tokens of a text.
        at_once: Texts in a request.
        gamma: Share of the vocabulary that is green.
        wrong_keys: How many wrong keys are tried too.
        alpha: Significance level.
        tries: Number of suspects and of keys that the owner tried; multiplies the p-value.
    """

    tokens: int = 20_000
    length: int = 96
    at_once: int = 64
    gamma: float = 0.25
    wrong_keys: int = 20
    alpha: float = 1e-5
    tries: int = 1

    def __post_init__(self) -> None:
        if min(self.tokens, self.length, self.at_once, self.tries) < 1 or not 0 < self.gamma < 1:
            raise BadInput(f"{self}: numbers must be at least 1, and gamma lie between 0 and 1")
        if self.wrong_keys < LEAST or not 0 < self.alpha < 1:
            raise BadInput(f"{self}: expected at least {LEAST} wrong keys, and alpha between 0 and 1")

    def read(self, suspect: CompletionOracle, rng: np.random.Generator) -> tuple[list[str], int]:
        """Returns texts that the suspect tells, each begun by itself, and how many tokens it told.

        Raises:
            BadInput: It told nothing.
        """
        texts: list[str] = []
        before = suspect.spent.completion
        while (read := suspect.spent.completion - before) < self.tokens:
            asked = Decoding(self.length, n=self.at_once, seed=int(rng.integers(2**31)))
            told = [one.text for each in suspect.collect([""], asked) for one in each]
            if not told:
                break
            texts += told
        if not texts:
            raise BadInput(f"{suspect.model} told no text: {suspect.ended}")
        return texts, read

    def found(self, suspect: CompletionOracle, held: MarkedText, rng: np.random.Generator) -> Radioactivity:
        """Reads the suspect's texts as the owner's own tokens, and tests them.

        Raises:
            BadInput: It told no two tokens.
        """
        told, read = self.read(suspect, rng)
        texts = [held.vocabulary.encode(text) for text in told]
        seeds = [held.key.seed, *held.key.wrong(self.wrong_keys)]
        own, *wrong = (detect(texts, bytes.fromhex(seed), len(held.vocabulary), self.gamma) for seed in seeds)
        return Radioactivity(own, tuple(wrong), read)

    def accuse(self, suspect: CompletionOracle, held: MarkedText, rng: np.random.Generator) -> Evidence[TextMark]:
        """Asks the suspect for texts and returns the evidence.

        Raises:
            BadInput: The tokens are not those of the key, or the suspect told no two tokens.
        """
        held.check()
        before, found = suspect.spent.total, self.found(suspect, held, rng)
        commitments = 1 if held.key.receipt is None else held.key.receipt.commitments
        p = min(1.0, self.tries * commitments * found.p)
        return Evidence(
            method=NAME,
            verdict="accused" if p <= self.alpha else "inconclusive",
            p_value=p,
            alpha=self.alpha,
            suspect=suspect.model,
            suspect_queries=suspect.spent.total - before,
            settings=asdict(self),
            caution=CAUTION,
            details=described(found, commitments),
            receipt=held.key.receipt,
        )


def described(found: Radioactivity, commitments: int) -> TextMark:
    """Returns what a suspect's texts tell, as details of evidence."""
    pairs, green, z, p = found.found
    wrong = tuple(each.z for each in found.wrong)
    return TextMark(found.tokens, pairs, green, z, p, wrong, commitments)
