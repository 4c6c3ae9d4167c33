"""An encoder-decoder transformer: it reads one text, and writes another.

Source: Vaswani et al., "Attention Is All You Need", NeurIPS 2017. The blocks are those of the decoder-only
network (``gpt.py``); those of the encoder see all of the text, and those of the decoder read its states besides.
One matrix embeds the tokens of both texts and gives the output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import nn

from zoo.language.gpt import Block, Decoder, Gpt, Memory, begin
from zoo.language.tokens import END


@dataclass(frozen=True)
class EncoderDecoder(Gpt):
    """Sizes of an encoder-decoder.

    Attributes:
        vocabulary: Number of tokens v.
        context: Most tokens of the text that is read and of the one that is written, together.
        layers: Number of blocks of the decoder.
        heads: Number of attention heads; a divisor of the width.
        width: Width of the hidden states.
        encoder: Number of blocks of the encoder.
    """

    reads: ClassVar[bool] = True

    vocabulary: int = 3000
    layers: int = 2
    width: int = 128
    encoder: int = 2

    @property
    def weights(self) -> int:
        """The weights of all matrices."""
        return super().weights + self.width * (self.context + (12 * self.encoder + 4 * self.layers) * self.width)

    def network(self) -> EncoderDecoderNetwork:
        """Returns a new network of these sizes."""
        return EncoderDecoderNetwork(self)


class EncoderDecoderNetwork(Decoder):
    """Maps the tokens of texts to the logits of the next ones, after others that it has read."""

    def __init__(self, gpt: EncoderDecoder) -> None:
        super().__init__(gpt)
        self.e_wpe = nn.Embedding(gpt.context, gpt.width)
        self.e_h = nn.ModuleList([Block(gpt, layer) for layer in range(gpt.encoder)])
        self.e_ln = nn.LayerNorm(gpt.width, bias=False)
        begin(self, gpt.layers + gpt.encoder)  # at this width, attention to others begins too late from 0.02

    def read(self, tokens: torch.Tensor, lengths: torch.Tensor) -> Memory:
        """Returns what the decoder reads of texts: tokens ``(b, s)``, of which ``lengths``, ``(b,)``, count."""
        return self.remembered(self.wte(tokens), lengths)

    def remembered(self, embedded: torch.Tensor, lengths: torch.Tensor) -> Memory:
        """Returns the same for embedded tokens, ``(b, s, width)``, so that gradients reach them."""
        mask = torch.arange(embedded.shape[1]) < lengths[:, None, None, None]
        states = self.encoded(embedded, mask)
        blocks = cast("Sequence[Block]", self.h)
        parts = torch.stack([block.remembered(states) for block in blocks])
        return Memory(parts[:, :, :, 0], parts[:, :, :, 1], mask)

    def encoded(self, embedded: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Returns the encoder's states, ``(b, s, width)``, given which tokens count, ``(b, 1, 1, s)``."""
        x = embedded + self.e_wpe(torch.arange(embedded.shape[1], device=embedded.device))
        for block in self.e_h:
            x = block(x, mask=mask)
        states: torch.Tensor = self.e_ln(x)
        return states


def padded(texts: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns texts with :data:`END` after them, ``(b, s)``, and the length of each with one, ``(b,)``."""
    longest = 1 + max(map(len, texts))
    tokens = torch.tensor([[*ids, *[END] * (longest - len(ids))] for ids in texts])
    return tokens, torch.tensor([1 + len(ids) for ids in texts])
