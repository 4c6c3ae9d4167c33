"""A language model and a translator that are small and have learnt a little."""

from functools import cache

import numpy as np

from zoo.language.encoder_decoder import EncoderDecoder
from zoo.language.gpt import Gpt
from zoo.language.model import LanguageModel
from zoo.language.translator import Translator, paired
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


FRENCH = {"king": "roi", "servant": "valet", "go": "va", "tell": "dis", "forth": "loin", "here": "ici"}
SMALL_PAIR = EncoderDecoder(vocabulary=290, context=32, layers=1, heads=2, width=32, encoder=1)


def translation(source):
    return " ".join(["le", *(FRENCH[word] for word in source.split()[1:])])


def sources(n, seed):
    rng = np.random.default_rng(seed)
    return [" ".join(["the", *rng.choice(list(FRENCH), rng.integers(1, 4))]) for _ in range(n)]


@cache
def pairs():
    """Sentences and what stands for them, word by word."""
    return paired(sources(500, 1), map(translation, sources(500, 1)))


@cache
def translator():
    return Translator.learnt(pairs(), SMALL_PAIR, Training(epochs=5, batch=10, lr=1e-2), seed=0)
