"""A victim behind DAWN, and what it should answer."""

from contextlib import asynccontextmanager

import numpy as np
from sites import site

from defenses import (
    Dawn,
)
from defenses.store import open_store
from wire import Answer, Card

SECRET = bytes(range(32))
CARD = Card("m", (4,), 5, low=None, high=None)
X = np.random.default_rng(0).standard_normal((400, 4)).astype(np.float32)


def probs_of(x, classes=5):
    rng = np.random.default_rng([abs(int(v * 1000)) for v in x.reshape(len(x), -1)[:, 0]])
    return rng.dirichlet(np.full(classes, 0.3), len(x)).astype(np.float32)


PROBS = probs_of(X)
KNOWN = {row.tobytes(): p for row, p in zip(X, PROBS, strict=True)}


async def victim(query):
    probs = np.stack([KNOWN[row.tobytes()] for row in query.x])
    return Answer(probs.argmax(axis=1), probs)


@asynccontextmanager
async def opened_store(url="sqlite://"):
    store = open_store(url)
    try:
        yield store
    finally:
        await store.close()


def dawn(store, rate=0.2, **changes):
    at = {"card": CARD, "fingerprint": "ab", "secret": SECRET, "store": store} | changes
    return Dawn(rate).bind(site(**at))
