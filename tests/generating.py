"""A language model behind layers, without a server."""

import asyncio
from dataclasses import replace

from defenses import GenerationSite, Prompt, compose
from zoo.language.generation import Batch, Text
from zoo.language.sampling import Sampling

KEY = b"k" * 32


class Written:
    """A completion that is all known."""

    def __init__(self, pieces):
        self._pieces = list(pieces)

    async def next(self):
        return self._pieces.pop(0)

    def leave(self, number):
        """Has nothing to end."""


def answering(model):
    """Returns a language model as a handler."""

    async def generate(prompt):
        batch = Batch(model)
        sampled = [replace(prompt.sampling, seed=prompt.sampling.seed + i) for i in range(len(prompt.texts))]
        texts = [Text(ids, sampling) for ids, sampling in zip(prompt.texts, sampled, strict=True)]
        for text in texts:
            batch.join(text)
        pieces = []
        while len(batch):
            pieces += [(texts.index(text), tokens) for text, tokens in batch.step()]
        return Written(pieces)

    return generate


def bound(*defenses, secret=KEY):
    """Binds defences, outermost first."""
    return [defense.bind(GenerationSite("kjv", "00", secret)) for defense in defenses]


def ask(model, layers, texts, **sampling):
    """Continues texts behind layers; returns the tokens of each answer."""
    prompt = Prompt("a", texts, Sampling(**sampling), 0.0)
    told = [[] for _ in texts]

    async def asked():
        completion = await compose(layers, answering(model))(prompt)
        while not all(one and one[-1].finish for one in told):
            number, tokens = await completion.next()
            told[number] += tokens

    asyncio.run(asked())
    return told
