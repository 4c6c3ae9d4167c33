"""A lottery of small models: what the twin test draws from, without any training."""

import numpy as np

from owner.twins.twins import Twins
from wire import Answer, Card, Oracle
from zoo.data.pool import Pool

CARD = Card("suspect", (1, 5, 5), 3, low=None, high=None)
COMMON = np.random.default_rng(0).normal(size=(25, 3)) / 3


def drawn(rng, spread=0.15):
    """Draws the weights of a model."""
    return COMMON + spread * rng.normal(size=COMMON.shape)


def predicting(weights):
    def predict(x):
        logits = x.reshape(len(x), -1) @ weights
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)

    return predict


def asking(weights, asked=None, limit=None):
    """An oracle of a model that tells labels alone."""

    def transport(x):
        if asked is not None:
            asked.append(x)
        return Answer(predicting(weights)(x).argmax(axis=1))

    return Oracle(transport, CARD, limit)


def reference(n=200, seed=1):
    return Pool(np.random.default_rng(seed).normal(size=(n, 1, 5, 5)).astype(np.float32))


def twins(models, victim=0, settings=None, rows=None):
    return Twins(
        models=[predicting(weights) for weights in models],
        victim=victim,
        card=CARD,
        reference=rows or reference(),
        root="00",
        settings={"twin-test": settings or {}},
    )
