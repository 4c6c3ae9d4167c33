"""The width of a language model and its output matrix, from the logits of single tokens.

Source: Carlini, Paleka, Dvijotham, Steinke, Hayase, Cooper, Lee, Jagielski, Nasr, Conmy, Wallace, Rolnick, Tramèr,
"Stealing Part of a Production Language Model", ICML 2024: sections 4.1 (full logits), 4.2 (the output layer up to
a linear map), 5 (top-k log-probabilities with a logit bias) and 6 (no log-probabilities: bisection of the bias).

In their symbols: the hidden state g(p) of a prompt, of width h, gives the logits W g(p), so a matrix Q of logits
has rank h. The paper finds h at the greatest ratio of successive singular values. In a trained model the first
ratios are great too, so here the mean over prompts is taken off, and the rank is where the rest is noise
(:func:`~attacker.language.rank.above_noise`). A request's own noise, such as that of a reference
token, drops out with the mean over its tokens. A layer normalisation centres hidden states: their rank is h - 1.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from attacker.asking import NothingAnswered
from attacker.language.logits import bisected, told
from attacker.language.rank import above_noise
from attacker.language.vocabulary import size
from wire import Array, BadInput
from wire.completions import CompletionOracle

LETTERS = string.ascii_letters + " ,.;"


@dataclass(frozen=True, eq=False)
class Output:
    """An output layer, as far as it is known.

    Attributes:
        names: The tokens, by the names that the API gives them, ``(t,)``; the reference is not among them.
        singular: The singular values of the centred logits, greatest first.
        rank: How many of them stand above white noise; None if none does, or all do.
        width: The hidden width; None likewise.
        matrix: Their rows of the output matrix, less the reference's, up to a linear map, ``(t, rank)``.
    """

    names: tuple[str, ...]
    singular: Array
    rank: int | None
    width: int | None
    matrix: Array | None


@dataclass(frozen=True)
class OutputLayer:
    """The width and the output matrix of a language model, by the rank of its logits (ICML 2024).

    Attributes:
        prompts: Prompts to ask about; more than the width.
        tokens: Tokens to ask about, the reference among them; 0 for all. More than the width.
        bias: Bias that raises the tokens of a request above all others. It is increased if it does not suffice; a
            greater one than needed costs digits.
        answers: What the API discloses: log-probabilities, or nothing but the text (``label``).
        precision: For ``label``, the greatest error of a logit at which the bisection ends.
        letters: Length of a prompt, a random text.
        normalisation: The last normalisation of the victim's kind of decoder: ``layer`` takes a dimension away.
    """

    prompts: int = 160
    tokens: int = 160
    bias: float = 20.0
    answers: Literal["logprobs", "label"] = "logprobs"
    precision: float = 1e-4
    letters: int = 12
    normalisation: Literal["layer", "rms"] = "layer"

    def __post_init__(self) -> None:
        if self.prompts < 4 or (self.tokens < 4 and self.tokens) or self.letters < 1:
            raise BadInput(f"{self}: prompts and tokens must be at least 4 (or 0 tokens: all), letters at least 1")
        if not (0 < self.bias <= 100 and 0 < self.precision < self.bias):
            raise BadInput(f"{self}: expected 0 < precision < bias <= 100")
        if self.answers == "label" and self.bias > 50:
            raise BadInput(f"{self}: a bisection goes up to twice the bias; expected at most 50")

    def steal(self, oracle: CompletionOracle, rng: np.random.Generator) -> Output:
        """Asks for single tokens, and takes the logits apart; works on what was answered if the victim stops.

        Raises:
            NothingAnswered: Too little was answered for a matrix of logits.
        """
        texts = ["".join(rng.choice(list(LETTERS), self.letters)) for _ in range(self.prompts)]
        there = size(oracle)
        ids = rng.permutation(there).tolist()
        if self.answers == "logprobs":
            names, parts = told(oracle, texts, ids[: self.tokens or there], self.bias)
        else:
            names, parts = bisected(oracle, texts, ids, self.tokens or there, self.bias, self.precision)
        if not parts or min(len(parts[0]), len(names)) < 4:
            raise NothingAnswered(f"fewer than 4 prompts and tokens were answered: {oracle.ended}")
        return self.taken_apart(names, parts)

    def taken_apart(self, names: Sequence[str], parts: Sequence[Array]) -> Output:
        """Finds the rank of logits and factors them.

        Args:
            names: The tokens but the reference, ``(t,)``.
            parts: The logits of each request, ``(p, 1 + k)``, the reference's first, up to a constant of each row;
                of all requests together, ``k`` sums to ``t``.
        """
        own = np.concatenate([part - part.mean(axis=1, keepdims=True) for part in parts], axis=1)
        u, s, _ = np.linalg.svd(own - own.mean(axis=0), full_matrices=False)
        p, t = len(own) - 1, len(names)
        s = s[: min(p, t)]
        rank = above_noise(s, p, t)
        if rank is None:
            return Output(tuple(names), s, None, None, None)
        logits = np.concatenate([part[:, 1:] - part[:, :1] for part in parts], axis=1)
        width = rank + (self.normalisation == "layer")
        return Output(tuple(names), s, rank, width, (logits - logits.mean(axis=0)).T @ u[:, :rank])
