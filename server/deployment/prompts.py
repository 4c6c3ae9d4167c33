"""A language model as detectors meet it: a victim of texts, with features of its own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from defenses.companions import Forward
from defenses.site import Site
from defenses.store import Store
from server.control.log import ControlLog
from wire import Array, BadInput, Card
from zoo import folder
from zoo.language.model import LanguageModel


@dataclass(frozen=True)
class PromptFeatures:
    """The models beside a language model; a :class:`~defenses.companions.Companions`.

    Its activations are the means of its last hidden states over a text's tokens, of norm 1 for each hidden unit.

    Attributes:
        model: The language model.
    """

    model: LanguageModel

    async def checkpoints(self) -> Forward:
        """Raises :class:`~wire.BadInput`: a language model has no checkpoints."""
        raise BadInput("a language model has no checkpoints")

    async def load(self, path: Path) -> Forward:
        """Returns a saved classifier of texts, as class probabilities ``(n, k)``.

        Raises:
            BadInput: The folder is broken, or its model takes no texts.
        """
        model = await asyncio.to_thread(folder.load, path)
        if model.card().dtype != "BYTES":
            raise BadInput(f"{path}: it takes numbers, and prompts are texts")

        async def forward(x: Array) -> Array:
            return await asyncio.to_thread(model.predict, x)

        return forward

    async def activations(self, rows: Array) -> Array:
        """Returns the means of hidden states of texts, ``(n, width)`` float32.

        Raises:
            BadInput: The model translates, so that a prompt is no beginning of its text.
        """
        if self.model.gpt.reads:
            raise BadInput("the model reads a source; its prompts are described by their words")
        return await asyncio.to_thread(self._means, rows)

    async def activation_bits(self, limits: Array) -> Forward:
        """Returns a forward pass that compares each of these means with a limit, ``(n, 2, width)``."""

        async def forward(x: Array) -> Array:
            above = 1 / (1 + np.exp(limits - await self.activations(x)))
            return np.stack([1 - above, above], axis=1)

        return forward

    def _means(self, rows: Array) -> Array:
        most = self.model.gpt.context - 1
        texts = [self.model.tokens.encode(text)[:most] for text in rows]
        return self.model.embeddings(texts) * np.float32(np.sqrt(self.model.gpt.width))


def prompts_of(name: str, model: LanguageModel, fingerprint: str, store: Store, control: ControlLog) -> Site:
    """Returns the site of a language model's prompts, without a key."""
    card = Card(name, (), 1, dtype="BYTES")
    alarms = control.alarms
    return Site(name, card, fingerprint, b"", store, alarms, PromptFeatures(model), place=alarms.place(name))
