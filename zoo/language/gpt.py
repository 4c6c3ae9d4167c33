"""A decoder-only transformer with a key-value cache.

Source: Radford, Wu, Child, Luan, Amodei, Sutskever, "Language Models are Unsupervised Multitask Learners", OpenAI
2019, section 2.3, written as nanoGPT writes it (Karpathy 2022): normalisation before each block, GELU, learnt
positions, and one matrix for the input and the output. There is no dropout, and no layer has a bias.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from wire import BadInput

MOST_WEIGHTS = 2**28  # of a model that a card may ask for: 1 GiB of float32


@dataclass(frozen=True)
class Gpt:
    """Sizes of a decoder.

    Attributes:
        vocabulary: Number of tokens v.
        context: Most tokens of a text, prompt and completion together.
        layers: Number of blocks.
        heads: Number of attention heads; a divisor of the width.
        width: Width of the hidden states.
    """

    vocabulary: int = 2048
    context: int = 128
    layers: int = 5
    heads: int = 4
    width: int = 96

    def __post_init__(self) -> None:
        sizes = (self.vocabulary, self.context, self.layers, self.heads, self.width)
        if min(sizes) < 1 or self.width % self.heads:
            raise BadInput(f"{self}: all sizes must be at least 1, and heads divide the width")
        weights = self.width * (self.vocabulary + self.context + 12 * self.layers * self.width)
        if weights > MOST_WEIGHTS:
            raise BadInput(f"{self}: {weights:,} weights; expected at most {MOST_WEIGHTS:,}")


class Cache:
    """The keys and values of the texts in a number of slots.

    Attributes:
        keys: ``(layers, slots, context, heads, width / heads)``.
        values: Likewise.
    """

    def __init__(self, gpt: Gpt, slots: int) -> None:
        shape = (gpt.layers, slots, gpt.context, gpt.heads, gpt.width // gpt.heads)
        self.keys, self.values = torch.zeros(shape), torch.zeros(shape)


class Past:
    """What a pass reads from a cache and adds to it."""

    def __init__(self, cache: Cache, slots: torch.Tensor, positions: torch.Tensor) -> None:
        """Takes the texts' slots, ``(b,)``, and the positions of the pass's tokens, ``(b, t)``.

        A position is seen from itself and later ones, so what stands behind a text's end is never seen: it is
        written anew before it is.
        """
        self._cache, self._slots, self.positions = cache, slots, positions
        first = torch.equal(slots, torch.arange(len(slots)))
        self._rows = slice(len(slots)) if first else slots  # a slice is read in place, without a copy
        self._end = int(positions.max()) + 1
        self.mask = (torch.arange(self._end) <= positions[:, :, None])[:, None]  # (b, 1, t, end)

    def extended(self, layer: int, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes a layer's keys and values, ``(b, t, heads, d)``, and returns all, ``(b, end, heads, d)``."""
        for kept, new in ((self._cache.keys[layer], k), (self._cache.values[layer], v)):
            kept[self._slots[:, None], self.positions] = new
        keys, values = (kept[layer][self._rows, : self._end] for kept in (self._cache.keys, self._cache.values))
        return keys, values


class Block(nn.Module):
    """Causal self-attention, and a perceptron of one hidden layer."""

    def __init__(self, gpt: Gpt, layer: int) -> None:
        super().__init__()
        self._layer, self._heads = layer, gpt.heads
        self.ln_1, self.ln_2 = (nn.LayerNorm(gpt.width, bias=False) for _ in range(2))
        self.c_attn = nn.Linear(gpt.width, 3 * gpt.width, bias=False)
        self.c_proj = nn.Linear(gpt.width, gpt.width, bias=False)
        self.c_fc = nn.Linear(gpt.width, 4 * gpt.width, bias=False)
        self.c_out = nn.Linear(4 * gpt.width, gpt.width, bias=False)

    def forward(self, x: torch.Tensor, past: Past | None) -> torch.Tensor:
        """Maps states to states, ``(b, t, width)``."""
        q, k, v = self.c_attn(self.ln_1(x)).unflatten(2, (3, self._heads, -1)).unbind(2)
        if past is not None:
            k, v = past.extended(self._layer, k, v)
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        mask = None if past is None else past.mask
        mixed = functional.scaled_dot_product_attention(q, k, v, mask, is_causal=past is None)
        x = x + self.c_proj(mixed.transpose(1, 2).flatten(2))
        added: torch.Tensor = x + self.c_out(functional.gelu(self.c_fc(self.ln_2(x))))
        return added


class Decoder(nn.Module):
    """Maps the tokens of texts to the logits of the next ones."""

    def __init__(self, gpt: Gpt) -> None:
        super().__init__()
        self.wte = nn.Embedding(gpt.vocabulary, gpt.width)
        self.wpe = nn.Embedding(gpt.context, gpt.width)
        self.h = nn.ModuleList([Block(gpt, layer) for layer in range(gpt.layers)])
        self.ln_f = nn.LayerNorm(gpt.width, bias=False)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                residual = name.endswith(("c_proj.weight", "c_out.weight"))  # 2 a layer are added to the state
                nn.init.normal_(weight, std=0.02 / (math.sqrt(2 * gpt.layers) if residual else 1))

    def forward(self, tokens: torch.Tensor, past: Past | None = None) -> torch.Tensor:
        """Returns logits ``(b, t, v)`` for tokens ``(b, t)``; with a past, for these at their positions."""
        logits: torch.Tensor = self.states(tokens, past) @ self.wte.weight.T
        return logits

    def states(self, tokens: torch.Tensor, past: Past | None = None) -> torch.Tensor:
        """Returns the last hidden states, ``(b, t, width)``, of which logits are a linear function."""
        positions = torch.arange(tokens.shape[1], device=tokens.device) if past is None else past.positions
        x = self.wte(tokens) + self.wpe(positions)
        for block in self.h:
            x = block(x, past)
        states: torch.Tensor = self.ln_f(x)
        return states
