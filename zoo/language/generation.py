"""Generation: texts that are continued token by token, many at once.

Source: Yu, Jeong, Kim, Kim, Chun, "Orca: A Distributed Serving System for Transformer-Based Generative Models",
OSDI 2022: texts join and leave a batch between tokens (iteration-level scheduling). Here the prompts of newcomers
are a pass of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from wire import Array
from zoo.language.encoder_decoder import EncoderDecoderNetwork, padded
from zoo.language.gpt import Cache, Past
from zoo.language.model import LanguageModel
from zoo.language.sampling import Sampling, Told, drawn
from zoo.language.tokens import END

SLOTS = 32  # texts that share a pass


@dataclass(eq=False)
class Text:
    """A text that is being continued.

    Attributes:
        prompt: Its tokens, without :data:`END` before them.
        sampling: How it is continued.
        owner: Whose it is: slots are shared out evenly among owners.
        left: Set to end it before its next token.
        read: The tokens that an encoder reads, if the model has one; then the prompt is empty.
    """

    prompt: Sequence[int]
    sampling: Sampling
    owner: str = ""
    left: bool = False
    read: Sequence[int] = ()

    def __post_init__(self) -> None:
        self.ids = [END, *self.prompt]
        self.rng = np.random.default_rng(self.sampling.seed)


def text_of(model: LanguageModel, ids: Sequence[int], sampling: Sampling, owner: str = "") -> Text:
    """Returns the text that a model writes about tokens: it continues them, or its encoder reads them."""
    return Text((), sampling, owner, read=ids) if model.gpt.reads else Text(ids, sampling, owner)


class Batch:
    """Texts that are continued together, each as if it were alone, up to rounding."""

    def __init__(self, model: LanguageModel, slots: int = SLOTS) -> None:
        self._model, self._cache = model, Cache(model.gpt, slots)
        self._free = list(reversed(range(slots)))
        self._running: dict[int, Text] = {}  # by slot
        self._waiting: list[Text] = []

    def __len__(self) -> int:
        """Returns how many texts are to be continued."""
        return len(self._running) + len(self._waiting)

    def join(self, text: Text) -> None:
        """Adds a text, whose prompt and new tokens fit the context; it takes part from the next step on."""
        self._waiting.append(text)

    @torch.inference_mode()
    def step(self) -> list[tuple[Text, list[Told]]]:
        """Generates one token for each text in a slot; returns the tokens and their log-probabilities."""
        self._waiting = [text for text in self._waiting if not text.left]
        for slot in [slot for slot, text in self._running.items() if text.left]:
            self._leave(slot)
        going = dict(sorted(self._running.items()))
        told = []
        if fresh := self._seated():
            self._read(fresh)
            told += self._pass(fresh, {slot: text.ids for slot, text in fresh.items()})
        if going:
            told += self._pass(going, {slot: text.ids[-1:] for slot, text in going.items()})
        return told

    def _seated(self) -> dict[int, Text]:
        """Gives free slots to waiting texts: of the owner with the fewest first."""
        fresh: dict[int, Text] = {}
        held = Counter(text.owner for text in self._running.values())
        while self._waiting and self._free:
            text = min(self._waiting, key=lambda text: held[text.owner])
            self._waiting.remove(text)
            held[text.owner] += 1
            fresh[self._free.pop()] = text
        self._running |= fresh
        return fresh

    def _read(self, fresh: Mapping[int, Text]) -> None:
        """Keeps what an encoder reads, if the model has one."""
        network = self._model.decoder
        if isinstance(network, EncoderDecoderNetwork):
            tokens, lengths = padded([text.read for text in fresh.values()])
            self._cache.keep(torch.tensor(list(fresh)), network.read(tokens, lengths))

    def _leave(self, slot: int) -> None:
        del self._running[slot]
        self._free = sorted([*self._free, slot], reverse=True)  # the first ones are taken first

    def _pass(self, texts: Mapping[int, Text], new: Mapping[int, Sequence[int]]) -> list[tuple[Text, list[Told]]]:
        """Runs the decoder over the new tokens of texts, and draws the next one of each."""
        lengths = torch.tensor([len(ids) for ids in new.values()])
        longest = int(lengths.max())
        tokens = torch.tensor([[*ids, *[END] * (longest - len(ids))] for ids in new.values()])
        begins = torch.tensor([len(text.ids) for text in texts.values()]) - lengths
        past = Past(self._cache, torch.tensor(list(texts)), begins[:, None] + torch.arange(longest))
        logits = self._model.decoder(tokens, past)
        last = logits[torch.arange(len(texts)), lengths - 1].double()
        for text, own in zip(texts.values(), last.numpy(), strict=True):
            own[:] = _changed(text, text.ids, own)
            for token, bias in text.sampling.logit_bias.items():
                own[token] += bias
        told: list[tuple[Text, list[Told]]] = []
        scores = last.log_softmax(1).numpy()
        for (slot, text), own, seen in zip(texts.items(), scores, logits, strict=True):
            one = []
            if text.sampling.echo and len(text.ids) == len(text.prompt) + 1 == len(new[slot]):
                one += _echoed(text, seen[: len(text.ids) - 1])
            if text.sampling.max_tokens:
                one.append(_next(text, own))
                text.ids.append(one[-1].token)
            elif one:
                one[-1] = one[-1]._replace(finish="length")
            told.append((text, one))
            if not text.sampling.max_tokens or one[-1].finish:
                self._leave(slot)
        return told


def likeliest(model: LanguageModel, texts: Sequence[str], most: int) -> list[str]:
    """Returns what a model writes about texts, the likeliest token at each place, at most so many."""
    batch = Batch(model)
    written = [text_of(model, model.tokens.encode(text), Sampling(most, temperature=0)) for text in texts]
    for text in written:
        batch.join(text)
    while len(batch):
        batch.step()
    return [model.tokens.decode(token for token in text.ids[1 + len(text.prompt) :] if token) for text in written]


def _changed(text: Text, ids: Sequence[int], logits: Array) -> Array:
    """Returns the logits after some of a text's tokens, ``(v,)``, as they are changed."""
    for change in text.sampling.changes:
        logits = change(ids, logits)
    return logits


def _next(text: Text, scores: Array) -> Told:
    """Draws a text's next token, given log-probabilities ``(v,)`` of float64."""
    sampling = text.sampling
    token = drawn(scores, sampling.temperature, sampling.top_p, text.rng)
    done = len(text.ids) - len(text.prompt)  # with this one
    finish: Literal["stop", "length"] | None = "length" if done >= sampling.max_tokens else None
    return _told(token, scores, sampling.logprobs, "stop" if token == END else finish)


def _echoed(text: Text, logits: torch.Tensor) -> list[Told]:
    """Tells the prompt's tokens, given the logits before each, ``(n, v)``; of the first, none is told."""
    exact = logits.double()
    for n, own in enumerate(exact.numpy(), 1):
        own[:] = _changed(text, text.ids[:n], own)
    scores = exact.log_softmax(1).numpy()
    told = [_told(token, own, text.sampling.logprobs) for token, own in zip(text.prompt, scores, strict=True)]
    return [Told(told[0].token), *told[1:]] if told else []


def _told(
    token: int, scores: Array, logprobs: int | None, finish: Literal["stop", "length"] | None = None
) -> Told:
    if logprobs is None:
        return Told(token, finish=finish)
    top = np.argpartition(-scores, logprobs - 1)[:logprobs] if logprobs else np.empty(0, int)
    top = top[np.lexsort((top, -scores[top]))]
    return Told(token, float(scores[token]), tuple((int(i), float(scores[i])) for i in top), finish)
