"""A decoder-only transformer with a key-value cache; its blocks are also those of an encoder-decoder.

Source: Radford, Wu, Child, Luan, Amodei, Sutskever, "Language Models are Unsupervised Multitask Learners", OpenAI
2019, section 2.3, written as nanoGPT writes it (Karpathy 2022): normalisation before each block, GELU, learnt
positions, and one matrix for the input and the output. There is no dropout, and no layer has a bias.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

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

    reads: ClassVar[bool] = False
    """Whether an encoder reads the prompt, and the completion begins anew."""

    vocabulary: int = 2048
    context: int = 128
    layers: int = 5
    heads: int = 4
    width: int = 96

    def __post_init__(self) -> None:
        if min(vars(self).values()) < 1 or self.width % self.heads:
            raise BadInput(f"{self}: all sizes must be at least 1, and heads divide the width")
        if self.weights > MOST_WEIGHTS:
            raise BadInput(f"{self}: {self.weights:,} weights; expected at most {MOST_WEIGHTS:,}")

    @property
    def weights(self) -> int:
        """The weights of all matrices."""
        return self.width * (self.vocabulary + self.context + 12 * self.layers * self.width)

    def network(self) -> Decoder:
        """Returns a new network of these sizes."""
        return Decoder(self)


class Memory(NamedTuple):
    """The keys and values that the decoder's blocks read of an encoder's states.

    Attributes:
        keys: ``(layers, b, s, heads, width / heads)``.
        values: Likewise.
        mask: Which of them belong to a text, ``(b, 1, 1, s)``.
    """

    keys: torch.Tensor
    values: torch.Tensor
    mask: torch.Tensor


class Cache:
    """The keys and values of the texts in a number of slots.

    Attributes:
        keys: ``(layers, slots, context, heads, width / heads)``.
        values: Likewise.
        memory: What was read of the prompts, if an encoder reads them.
    """

    def __init__(self, gpt: Gpt, slots: int) -> None:
        shape = (gpt.layers, slots, gpt.context, gpt.heads, gpt.width // gpt.heads)
        self.keys, self.values = torch.zeros(shape), torch.zeros(shape)
        self.memory: Memory | None = None
        if gpt.reads:
            none = torch.zeros((slots, 1, 1, gpt.context), dtype=torch.bool)
            self.memory = Memory(torch.zeros(shape), torch.zeros(shape), none)

    def keep(self, slots: torch.Tensor, memory: Memory) -> None:
        """Keeps what was read of the prompts of texts in these slots, ``(b,)``."""
        assert self.memory is not None
        self.memory.mask[slots] = False
        longest = memory.keys.shape[2]
        self.memory.mask[slots, :, :, :longest] = memory.mask
        for kept, new in zip(self.memory[:2], memory[:2], strict=True):
            kept[:, slots, :longest] = new


class Past:
    """The part of a cache that a pass reads and extends."""

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
        self.memory = None if cache.memory is None else self._read(cache.memory)

    def _read(self, memory: Memory) -> Memory:
        """Returns what was read of the prompts, up to the end of the longest."""
        mask = memory.mask[self._rows]
        end = int(mask.sum(dim=3).max())
        keys, values = (part[:, self._rows, :end] for part in memory[:2])
        return Memory(keys, values, mask[..., :end])

    def extended(self, layer: int, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes a layer's keys and values, ``(b, t, heads, d)``, and returns all, ``(b, end, heads, d)``."""
        for kept, new in ((self._cache.keys[layer], k), (self._cache.values[layer], v)):
            kept[self._slots[:, None], self.positions] = new
        keys, values = (kept[layer][self._rows, : self._end] for kept in (self._cache.keys, self._cache.values))
        return keys, values


class Block(nn.Module):
    """Self-attention, attention to an encoder's states if there is one, and a perceptron of one hidden layer."""

    def __init__(self, gpt: Gpt, layer: int, *, reads: bool = False) -> None:
        """Makes a block with random weights.

        Args:
            gpt: The network's sizes.
            layer: The block's number.
            reads: Whether it reads an encoder's states.
        """
        super().__init__()
        self._layer, self._heads = layer, gpt.heads
        self.ln_1, self.ln_2 = (nn.LayerNorm(gpt.width, bias=False) for _ in range(2))
        self.c_attn = nn.Linear(gpt.width, 3 * gpt.width, bias=False)
        self.c_proj = nn.Linear(gpt.width, gpt.width, bias=False)
        self.c_fc = nn.Linear(gpt.width, 4 * gpt.width, bias=False)
        self.c_out = nn.Linear(4 * gpt.width, gpt.width, bias=False)
        if reads:
            self.ln_3 = nn.LayerNorm(gpt.width, bias=False)
            self.c_query = nn.Linear(gpt.width, gpt.width, bias=False)
            self.c_memory = nn.Linear(gpt.width, 2 * gpt.width, bias=False)
            self.c_read = nn.Linear(gpt.width, gpt.width, bias=False)

    def forward(
        self,
        x: torch.Tensor,
        past: Past | None = None,
        memory: Memory | None = None,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Maps states to states, ``(b, t, width)``.

        Args:
            x: The states.
            past: What stands before them; None if nothing does.
            memory: What is read of an encoder's states.
            mask: Which states each may see, ``(b, 1, 1, t)``; None for itself and those before it.
        """
        q, k, v = self.c_attn(self.ln_1(x)).unflatten(2, (3, self._heads, -1)).unbind(2)
        if past is not None:
            k, v = past.extended(self._layer, k, v)
            mask = past.mask
        x = x + self.c_proj(_mixed(q, k, v, mask))
        if memory is not None:
            q = self.c_query(self.ln_3(x)).unflatten(2, (self._heads, -1))
            read = _mixed(q, memory.keys[self._layer], memory.values[self._layer], memory.mask)
            x = x + self.c_read(read)
        added: torch.Tensor = x + self.c_out(functional.gelu(self.c_fc(self.ln_2(x))))
        return added

    def remembered(self, states: torch.Tensor) -> torch.Tensor:
        """Returns the keys and values of an encoder's states, ``(b, s, 2, heads, width / heads)``."""
        found: torch.Tensor = self.c_memory(states).unflatten(2, (2, self._heads, -1))
        return found


def _mixed(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Mixes values by attention: of ``(b, t, heads, d)`` to ``(b, t, width)``; without a mask, causally."""
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))
    mixed = functional.scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None)
    return mixed.transpose(1, 2).flatten(2)


class Decoder(nn.Module):
    """Maps the tokens of texts to the logits of the next ones."""

    def __init__(self, gpt: Gpt) -> None:
        super().__init__()
        self.wte = nn.Embedding(gpt.vocabulary, gpt.width)
        self.wpe = nn.Embedding(gpt.context, gpt.width)
        self.h = nn.ModuleList([Block(gpt, layer, reads=gpt.reads) for layer in range(gpt.layers)])
        self.ln_f = nn.LayerNorm(gpt.width, bias=False)
        begin(self, gpt.layers, 0.02)

    def forward(
        self, tokens: torch.Tensor, past: Past | None = None, memory: Memory | None = None
    ) -> torch.Tensor:
        """Returns logits ``(b, t, v)`` for tokens ``(b, t)``; with a past, for these at their positions."""
        logits: torch.Tensor = self.states(tokens, past, memory) @ self.wte.weight.T
        return logits

    def states(self, tokens: torch.Tensor, past: Past | None = None, memory: Memory | None = None) -> torch.Tensor:
        """Returns the last hidden states, ``(b, t, width)``, of which logits are a linear function.

        The memory is what was read of an encoder's states, where a past does not have it.
        """
        if past is None:
            positions = torch.arange(tokens.shape[1], device=tokens.device)
        else:
            positions, memory = past.positions, past.memory
        x = self.wte(tokens) + self.wpe(positions)
        for block in self.h:
            x = block(x, past, memory)
        states: torch.Tensor = self.ln_f(x)
        return states


def begin(network: nn.Module, layers: int, std: float | None = None) -> None:
    """Draws the weights of all matrices of a network.

    Args:
        network: The network.
        layers: How many blocks add to a state, each twice.
        std: Standard deviation of the weights; None for the root of 1 over the inputs of each.
    """
    for name, weight in network.named_parameters():
        if weight.ndim == 2:
            residual = name.endswith(("c_proj.weight", "c_out.weight", "c_read.weight"))
            own = std or 1 / math.sqrt(weight.shape[1])
            nn.init.normal_(weight, std=own / (math.sqrt(2 * layers) if residual else 1))
