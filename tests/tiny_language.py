"""A language model that is small and has learnt a little."""

from functools import cache

import numpy as np

from zoo.language.gpt import Gpt
from zoo.language.model import LanguageModel
from zoo.training import Training

WORDS = "the king said unto them go forth and tell his servant that I am here before you".split()  # noqa: SIM905
SMALL = Gpt(vocabulary=300, context=24, layers=2, heads=2, width=16)


@cache
def sentences():
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, rng.integers(4, 9))).capitalize() + "." for _ in range(200)]


@cache
def tiny():
    return LanguageModel.learnt(sentences(), SMALL, Training(epochs=3, batch=8, lr=1e-2), seed=0)
