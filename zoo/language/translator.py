"""A translator: a network that reads one text and writes another, of another language or style.

A pair of texts is one text with a tab between its sides, so whatever holds texts holds pairs too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Self

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from wire import Array, BadInput
from zoo.language.encoder_decoder import EncoderDecoderNetwork, padded
from zoo.language.model import LanguageModel, next_token_loss
from zoo.language.tokens import END
from zoo.training import Training, train

BETWEEN = "\t"  # stands between the sides of a pair
NONE = -100  # in place of a token that does not count


class Translator(LanguageModel):
    """An encoder-decoder with its tokens, on the CPU; it translates texts.

    Attributes:
        decoder: The network.
    """

    decoder: EncoderDecoderNetwork

    @staticmethod
    def parts(texts: Iterable[str]) -> list[str]:
        """Returns both sides of pairs."""
        return [side for text in texts for side in sides(text)]

    def fit(self, texts: Sequence[str], training: Training, *, seed: int, label: str = "") -> Self:
        """Continues training on pairs; returns this model.

        A step takes ``training.batch`` pairs of about the same length. Pairs longer than the context are left out.

        Raises:
            BadInput: A text is no pair, or all are longer than the context.
        """
        encoded = [self._encoded(text) for text in texts]
        pairs = [pair for pair in encoded if sum(map(len, pair)) < self.gpt.context]
        if not pairs:
            raise BadInput(f"{len(texts)} pairs, none of which is shorter than {self.gpt.context} tokens")
        pairs.sort(key=lambda pair: (len(pair[1]), len(pair[0])))
        x = torch.full((-(-len(pairs) // training.batch) * training.batch, 2, self.gpt.context), NONE)
        y = x[:, 0].clone()
        x[:, :, 0] = END
        for row, (source, target) in enumerate(pairs):
            x[row, 0, : len(source) + 1] = torch.tensor([*source, END])
            x[row, 1, : len(target) + 1] = torch.tensor([END, *target])
            y[row, : len(target) + 1] = torch.tensor([*target, END])
        x, y = (part.view(-1, training.batch, *part.shape[1:]) for part in (x, y))
        train(_Step(self.decoder), x, y, replace(training, batch=1), seed=seed, label=label, loss=_loss)
        self.decoder.eval()
        self.training = training
        return self

    @torch.inference_mode()
    def log_likelihoods(self, text: str) -> Array:
        """Returns the log-probability of each token of a pair's second side and of its end, ``(n,)``, in nats.

        Of sides longer than the context, the beginnings count.
        """
        source, target = (ids[: self.gpt.context - 1] for ids in self._encoded(text))
        memory = self.decoder.read(*padded([source]))
        scores = self.decoder(torch.tensor([[END, *target]]), memory=memory)[0].log_softmax(1)
        found: Array = scores.gather(1, torch.tensor([*target, END])[:, None])[:, 0].numpy()
        return found

    @torch.inference_mode()
    def embeddings(self, texts: Sequence[Sequence[int]]) -> Array:
        """Returns the mean of the encoder's states over each text's tokens, of norm 1: ``(n, width)`` float32."""
        found = []
        for ids in texts:  # each alone, so that it does not depend on the others
            tokens, lengths = padded([ids])
            whole = torch.ones(1, 1, 1, int(lengths), dtype=torch.bool)
            states = self.decoder.encoded(self.decoder.wte(tokens), whole)
            found.append(functional.normalize(states[0].mean(dim=0), dim=0).numpy())
        return np.stack(found)

    def _encoded(self, text: str) -> tuple[list[int], list[int]]:
        source, target = sides(text)
        return self.tokens.encode(source), self.tokens.encode(target)


def sides(text: str) -> tuple[str, str]:
    """Returns the sides of a pair.

    Raises:
        BadInput: It is none.
    """
    source, tab, target = text.partition(BETWEEN)
    if not tab:
        raise BadInput(f"a translator learns from pairs of texts, with a tab between; found {text[:40]!r}")
    return source, target


def paired(sources: Iterable[str], targets: Iterable[str]) -> list[str]:
    """Makes pairs of texts; a tab within one becomes a space."""
    return [
        BETWEEN.join(side.replace(BETWEEN, " ") for side in pair) for pair in zip(sources, targets, strict=True)
    ]


class _Step(nn.Module):
    """Maps one group of pairs, ``(1, b, 2, context)``, to logits, ``(b, t, v)``."""

    def __init__(self, network: EncoderDecoderNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        lengths = (x[0] != NONE).sum(dim=2)  # (b, 2)
        source, written = (x[0, :, side, : int(lengths[:, side].max())].clamp(min=END) for side in range(2))
        memory = self.network.read(source, lengths[:, 0])
        logits: torch.Tensor = self.network(written, memory=memory)
        return logits


def _loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Returns the mean cross-entropy of tokens that count: logits ``(b, t, v)``, tokens ``(1, b, context)``."""
    return next_token_loss(logits, targets[0, :, : logits.shape[1]])
