"""Texts with a few tokens flipped, so that a translator says something else: found on an imitation of it.

Sources: Wallace, Stern, Song, "Imitation Attacks and Defenses for Black-box Machine Translation Systems", EMNLP
2020, section 4: adversarial texts against the imitation transfer to the victim; Ebrahimi, Rao, Lowd, Dou,
"HotFlip: White-Box Adversarial Examples for Text Classification", ACL 2018: the gradient of the loss estimates
what each flip does. Here the loss is that of the imitation's own translation, with no other one in mind, and
only tokens that begin words are flipped, for others that do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from wire import BadInput
from zoo.language.encoder_decoder import padded
from zoo.language.generation import likeliest
from zoo.language.tokens import END
from zoo.language.translator import Translator

Flip = tuple[int, int]
"""A place in a text, and its new token."""


@dataclass(frozen=True)
class Flips:
    """Flips of tokens that change an imitation's translation, to be tried on its victim (EMNLP 2020).

    Attributes:
        flips: Tokens to flip in a text.
        candidates: Flips that are tried for each, those that the gradient favours.
        length: Most tokens of a translation.
    """

    flips: int = 2
    candidates: int = 16
    length: int = 64

    def __post_init__(self) -> None:
        if min(self.flips, self.candidates, self.length) < 1:
            raise BadInput(f"{self}: flips, candidates and length must be at least 1")

    def disturbed(self, imitation: Translator, texts: Sequence[str]) -> list[str]:
        """Returns the texts with flips that change the imitation's translations most, by its own loss."""
        said, words = likeliest(imitation, texts, self.length), _words(imitation)
        return [self._one(imitation, text, answer, words) for text, answer in zip(texts, said, strict=True)]

    def at_random(self, imitation: Translator, texts: Sequence[str], rng: np.random.Generator) -> list[str]:
        """Returns the texts with as many flips of the same kind, but drawn at random: what a null must be."""
        flipped, words = [], _words(imitation)
        for text in texts:
            ids = imitation.tokens.encode(text)
            places = [place for place, token in enumerate(ids) if token in words]
            for place in rng.permutation(places)[: self.flips]:
                ids[place] = int(rng.choice(words))
            flipped.append(imitation.tokens.decode(ids))
        return flipped

    def _one(self, imitation: Translator, text: str, answer: str, words: Sequence[int]) -> str:
        ids, target = imitation.tokens.encode(text), imitation.tokens.encode(answer)
        free = [place for place, token in enumerate(ids) if token in words]
        for _ in range(min(self.flips, len(free))):
            tried = self._favoured(imitation, ids, target, free, words)
            changed = [[*ids[:place], token, *ids[place + 1 :]] for place, token in tried]
            with torch.inference_mode():
                tokens, lengths = padded(changed)
                best = int(_losses(imitation, imitation.decoder.wte(tokens), lengths, target).argmax())
            ids = changed[best]
            free.remove(tried[best][0])
        return imitation.tokens.decode(ids)

    def _favoured(
        self,
        imitation: Translator,
        ids: Sequence[int],
        target: Sequence[int],
        free: Sequence[int],
        words: Sequence[int],
    ) -> list[Flip]:
        """Returns the flips that raise the loss most, to first order."""
        tokens, lengths = padded([ids])
        embedded = imitation.decoder.wte(tokens).detach().requires_grad_()
        (gradient,) = torch.autograd.grad(_losses(imitation, embedded, lengths, target).sum(), embedded)
        with torch.inference_mode():
            steep = gradient[0, free]  # (places, width)
            gains = steep @ imitation.decoder.wte.weight[words].T - (steep * embedded[0, free]).sum(
                1, keepdim=True
            )
            gains[torch.arange(len(free)), [words.index(ids[place]) for place in free]] = -torch.inf
        best = gains.flatten().topk(min(self.candidates, gains.numel())).indices.tolist()
        return [(free[at // len(words)], words[at % len(words)]) for at in best]


def _losses(
    imitation: Translator, embedded: torch.Tensor, lengths: torch.Tensor, target: Sequence[int]
) -> torch.Tensor:
    """Returns the loss of one translation after each of some texts, ``(b,)``, given their embedded tokens."""
    memory = imitation.decoder.remembered(embedded, lengths)
    written = torch.tensor([[END, *target]]).expand(len(embedded), -1)
    logits = imitation.decoder(written, memory=memory)
    expected = torch.tensor([[*target, END]]).expand(len(embedded), -1)
    return functional.cross_entropy(logits.transpose(1, 2), expected, reduction="none").mean(dim=1)


def _words(imitation: Translator) -> list[int]:
    """Returns the tokens that begin a word: a space and letters."""
    names = enumerate(imitation.tokens.name(token) for token in range(len(imitation.tokens)))
    return [token for token, name in names if name[:1] == " " and name[1:].isalpha()]
