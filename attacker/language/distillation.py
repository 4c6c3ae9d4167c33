"""A student of a language model, trained on the texts that it generates, or also on their log-probabilities.

Source: Kim, Rush, "Sequence-Level Knowledge Distillation", EMNLP 2016: section 3.2 (texts of the teacher alone)
and section 3.1 (its distribution over the next token). Here an API discloses only the k likeliest tokens, so
all others count together as one; and texts are sampled, not the likeliest ones, since there is no input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from attacker.asking import NothingAnswered
from wire import BadInput, BudgetSpent
from wire.completions import Completion, CompletionOracle, Decoding
from zoo.language.gpt import Gpt
from zoo.language.model import LanguageModel
from zoo.language.tokens import END, Tokens
from zoo.training import Training, train


@dataclass(frozen=True)
class Distillation:
    """Trains a student on a language model's texts, or also on its likeliest tokens at each position (EMNLP 2016).

    Attributes:
        tokens: Number of generated tokens to buy.
        learns: What the student learns from: the texts alone, or also log-probabilities.
        length: Maximum number of tokens of a text.
        at_once: Texts in a request.
        context: Maximum number of tokens that the student reads.
        layers: Number of its blocks.
        heads: Number of its attention heads.
        width: Its width.
        epochs: Passes over the texts.
        batch: Windows of text per step.
        lr: Greatest learning rate.
    """

    tokens: int = 200_000
    learns: Literal["text", "logprobs"] = "logprobs"
    length: int = 96
    at_once: int = 64
    context: int = 128
    layers: int = 5
    heads: int = 4
    width: int = 96
    epochs: int = 6
    batch: int = 16
    lr: float = 3e-3

    def __post_init__(self) -> None:
        if min(self.tokens, self.length, self.at_once) < 1:
            raise BadInput(f"{self}: tokens, length and at_once must be at least 1")

    def steal(self, oracle: CompletionOracle, tokens: Tokens, rng: np.random.Generator) -> LanguageModel:
        """Buys texts and trains a student, with the victim's tokens, which are public.

        Raises:
            NothingAnswered: Too little was told for one window of text.
        """
        if not (told := self.bought(oracle, rng)):
            raise NothingAnswered(f"no text was told: {oracle.ended}")
        return self.taught(told, tokens, seed=int(rng.integers(2**31)))

    def bought(self, oracle: CompletionOracle, rng: np.random.Generator) -> list[Completion]:
        """Returns texts that the victim generates without a prompt, of as many tokens as wanted."""
        told: list[Completion] = []
        before, n = oracle.spent.completion, self.at_once
        while oracle.spent.completion - before < self.tokens:
            logprobs = min(oracle.top, 5) if self.learns == "logprobs" else None
            asked = Decoding(self.length, n=n, logprobs=logprobs, seed=int(rng.integers(2**31)))
            told += (more := [one for texts in oracle.collect([""], asked) for one in texts])
            if not more and (n == 1 or not isinstance(oracle.ended, BudgetSpent)):
                break
            n = n if more else n // 2  # what is left of a budget covers fewer texts
        return told

    def taught(self, told: Sequence[Completion], tokens: Tokens, *, seed: int, label: str = "") -> LanguageModel:
        """Trains a student on texts.

        Raises:
            NothingAnswered: Too little was told for one window of text.
        """
        gpt = Gpt(len(tokens), self.context, self.layers, self.heads, self.width)
        student = LanguageModel.untrained(gpt, tokens, seed=seed)
        training = Training(self.epochs, batch=self.batch, lr=self.lr)
        none = f"less than one window of {self.context} tokens was told"
        if self.learns == "text":
            texts = [one.text for one in told]
            if sum(1 + len(tokens.encode(text)) for text in texts) < self.context:
                raise NothingAnswered(none)
            return student.fit(texts, training, seed=seed, label=label or "student")
        x, y = windows(told, tokens, self.context)
        if not len(x):
            raise NothingAnswered(none)
        train(student.decoder, x, y, training, seed=seed, label=label or "student", loss=rest_as_one)
        student.decoder.eval()
        student.training = training
        return student


def windows(told: Sequence[Completion], tokens: Tokens, context: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns windows of tokens, ``(n, context)``, and for each the likeliest next ones, ``(n, context, 2 k)``.

    Of the latter, the first k are tokens, the others their probabilities; all 0 where nothing was told, after a
    text that was cut.
    """
    ids = {tokens.name(number): number for number in range(len(tokens))}
    k = max((len(top) for one in told for top in one.top), default=1)
    stream, targets = [END], []
    for one in told:
        for name, top in zip(one.tokens, one.top, strict=True):
            likeliest = [(ids[other], float(np.exp(value))) for other, value in top.items()]
            likeliest += (k - len(likeliest)) * [(0, 0.0)]
            targets.append([*(token for token, _ in likeliest), *(prob for _, prob in likeliest)])
            stream.append(ids[name])
        if stream[-1] != END:
            targets.append([0.0] * (2 * k))
            stream.append(END)
    n = len(targets) // context
    x = torch.tensor(stream[: n * context]).view(n, context)
    return x, torch.tensor(targets[: n * context]).view(n, context, 2 * k)


def rest_as_one(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Returns the mean cross-entropy of the likeliest tokens, and of all others together.

    Args:
        logits: ``(b, t, v)``.
        targets: As of :func:`windows`.
    """
    tokens, probs = targets.chunk(2, dim=2)
    scores = logits.log_softmax(2).gather(2, tokens.long())
    known = probs.sum(2) > 0
    rest = (1 - probs.sum(2)).clamp(min=0)
    others = torch.log1p(-scores.exp().masked_fill(probs == 0, 0).sum(2).clamp(max=1 - 1e-6))
    losses = -(probs * scores).sum(2) - rest * others
    return losses[known].mean()
