"""A text classifier that reads tokens: a small transformer encoder, learnt from nothing but the rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from wire import Array, BadInput, Card
from zoo.data.pool import Pool
from zoo.families.family import Family
from zoo.families.fitted import flat
from zoo.language.gpt import Block, Gpt, begin
from zoo.language.tokens import END, Tokens
from zoo.model import Model
from zoo.network import Network
from zoo.tensors import Tensors, check_module
from zoo.training import Training, train

PASS = 16  # texts, of as many tokens each, so that an answer does not depend on the texts beside it


@dataclass(frozen=True)
class Transformer(Family):
    """Transformer encoder over byte-pair tokens, whose mean state gives the classes.

    Source: Vaswani et al., "Attention Is All You Need", NeurIPS 2017, section 3; dropout (Srivastava et al., JMLR
    2014) of the embedded tokens and of the mean. Nothing is pretrained.

    Attributes:
        vocabulary: Number of tokens, which are learnt from the texts.
        context: Most tokens of a text that are read.
        layers: Number of blocks.
        heads: Number of attention heads; a divisor of the width.
        width: Width of the hidden states.
        dropout: Share of the numbers that are dropped in training.
    """

    texts: ClassVar[bool] = True
    tabular: ClassVar[bool] = False

    vocabulary: int = 2000
    context: int = 64
    layers: int = 2
    heads: int = 4
    width: int = 64
    dropout: float = 0.3

    def __post_init__(self) -> None:
        _ = self.sizes  # checks them
        if not 0 <= self.dropout < 1:
            raise BadInput(f"{self}: dropout must be at least 0 and less than 1")

    @property
    def sizes(self) -> Gpt:
        """The sizes of its blocks."""
        return Gpt(self.vocabulary, self.context, self.layers, self.heads, self.width)

    def train(
        self, pool: Pool, training: Training, seed: int, *, device: str | None, label: str
    ) -> TransformerModel:
        """Learns tokens from the texts, and trains; see :class:`Family`.

        Raises:
            BadInput: A class has no texts, or there are checkpoints, held-out rows or noise.
        """
        assert pool.y is not None
        flat(pool)
        if training.checkpoints or training.held_out or training.noise:
            raise BadInput("a transformer of texts takes no checkpoints, held_out or noise; expected 0 of each")
        tokens = Tokens.learnt(pool.x.tolist(), self.vocabulary)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            module = _Module(self, len(tokens), len(pool.class_names))
            x = _ids(tokens, pool.x, self.context)
            train(module, x, torch.from_numpy(pool.y), training, seed=seed, label=label or "train")
        model = TransformerModel(self, pool.card(), tokens, module)
        model.training = training
        return model

    def restore(self, card: Card, tensors: Tensors, *, device: str | None) -> TransformerModel:
        """Returns a trained model; see :class:`Family`."""
        own = dict(tensors)
        if "tokens" not in own or own["tokens"].dtype != torch.uint8:
            raise ValueError("missing tensors: ['tokens'], which are bytes")
        tokens = Tokens.read(own.pop("tokens").numpy().tobytes())
        if len(tokens) > self.vocabulary:
            raise ValueError(f"there are {len(tokens)} tokens; expected at most {self.vocabulary}")
        module = _Module(self, len(tokens), card.classes)
        check_module(own, module)
        module.load_state_dict(own)
        return TransformerModel(self, card, tokens, module)


class _Module(nn.Module):
    """Maps tokens, ``(n, t)``, to logits, ``(n, classes)``; :data:`END` begins each text, and fills it up."""

    def __init__(self, family: Transformer, vocabulary: int, classes: int) -> None:
        super().__init__()
        self.wte = nn.Embedding(vocabulary, family.width)
        self.wpe = nn.Embedding(family.context, family.width)
        self.h = nn.ModuleList([Block(family.sizes, layer) for layer in range(family.layers)])
        self.ln = nn.LayerNorm(family.width)
        self.dropout = nn.Dropout(family.dropout)
        self.head = nn.Linear(family.width, classes)
        begin(self, family.layers)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        known = tokens != END
        known[:, 0] = True
        if self.training:  # what is filled in costs nothing then
            longest = int(known.sum(1).max())
            tokens, known = tokens[:, :longest], known[:, :longest]
        x = self.dropout(self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1])))
        for block in self.h:
            x = block(x, mask=known[:, None, None])
        share = known.float() / known.sum(1, keepdim=True)
        mean = (self.ln(x) * share[:, :, None]).sum(1)
        logits: torch.Tensor = self.head(self.dropout(mean))
        return logits


class TransformerModel(Model):
    """A trained transformer of texts, on the CPU."""

    def __init__(self, family: Transformer, card: Card, tokens: Tokens, module: _Module) -> None:
        """Takes the parts."""
        self.family, self._card, self._tokens, self._module = family, card, tokens, module.eval()

    def card(self) -> Card:
        """Returns the model's card."""
        return self._card

    def tensors(self) -> Tensors:
        """Returns the weights, and the tokens as bytes of JSON."""
        tokens = torch.frombuffer(bytearray(self._tokens.written()), dtype=torch.uint8)
        return {"tokens": tokens, **self._module.state_dict()}

    def network(self) -> Network:
        """Raises BadInput: this model takes texts, and what asks for a network gives numbers."""
        raise BadInput(
            "a text model is not a network: it has no layers, gradients or checkpoints that take rows of numbers"
        )

    @torch.inference_mode()
    def predict(self, x: Array) -> Array:
        """Returns class probabilities, ``(n, k)`` float32, of texts ``x``, ``(n,)`` str objects."""
        told = [np.empty((0, self._card.classes), np.float32)]
        for at in range(0, len(x), PASS):
            part = x[at : at + PASS]
            ids = _ids(self._tokens, [*part, *[""] * (PASS - len(part))], self.family.context)
            told.append(self._module(ids).softmax(1)[: len(part)].numpy())
        return np.concatenate(told)


def _ids(tokens: Tokens, x: Array | list[str], context: int) -> torch.Tensor:
    """Returns the first tokens of texts behind :data:`END`, ``(n, context)``, filled with it."""
    read = [[END, *tokens.encode(text[: context * tokens.longest])[: context - 1]] for text in x]
    return torch.tensor([ids + [END] * (context - len(ids)) for ids in read])
