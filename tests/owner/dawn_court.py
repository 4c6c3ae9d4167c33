"""A victim with marks, thieves, others, and a judge of them."""

import asyncio
import dataclasses

import numpy as np

from defenses import Dawn as Watermark
from defenses import Site, compose
from defenses.store import open_store
from defenses.watermarks.key import WatermarkKey
from defenses.watermarks.ledger import MarkLedger, WatermarkParameters
from owner.dawn import Claim, Dawn
from owner.judge import Victim, judge
from owner.ownership import prove
from wire import Answer, Card, Oracle, Query
from zoo.data.pool import Pool  # noqa: F401  # zoo before torch

SECRET = bytes(range(32))
KEY = SECRET.hex()
CARD = Card("victim", (6,), 10, low=None, high=None)
X = np.random.default_rng(0).standard_normal((1200, 6)).astype(np.float32)
PLANES = np.random.default_rng(1).standard_normal((6, 10))


def truth(x, noise=0.0, seed=0):
    """A model's labels; with noise those of another model of the same task."""
    planes = PLANES + noise * np.random.default_rng(seed).standard_normal(PLANES.shape)
    return (x @ planes).argmax(axis=1)


def oracle(labels_of, asked=None):
    def transport(x):
        if asked is not None:
            asked.append(len(x))
        return Answer(labels_of(x))

    return Oracle(transport, CARD)


VICTIM = oracle(truth)
OTHERS = {f"other {seed}": oracle(lambda x, seed=seed: truth(x, 0.3, seed)) for seed in (11, 12)}


async def _opening(steps):
    store = open_store("sqlite://")
    await steps(store)
    made = await MarkLedger(store, "victim").commit(9.0)
    opening = await MarkLedger(store, "victim").open("thief")
    await store.close()
    assert opening.root == made.root
    return opening


def common(rate=0.2, grid=None):
    return WatermarkParameters("victim", rate, 10, WatermarkKey(SECRET).commitment, "ab", grid=grid)


def served(rows=X, grid=None):
    """The labels that the thief got, and the ledger's opening."""
    told = {}

    async def steps(store):
        async def victim(query):
            labels = truth(query.x)
            probs = np.full((len(labels), 10), 0.05, np.float32)
            probs[np.arange(len(labels)), labels] = 0.55
            return Answer(labels, probs)

        await MarkLedger(store, "victim").begin(common(grid=grid))
        layer = Watermark(0.2).bind(Site("victim", CARD, "ab", SECRET, store, None, None))
        await layer.start()
        answer = await compose([layer], victim)(Query("thief", rows, 1.0))
        told.update({row.tobytes(): int(label) for row, label in zip(rows, answer.labels, strict=True)})

    return told, asyncio.run(_opening(steps))


def forged(marks, rate=0.2, medians=None):
    """An opening whose root binds just these marks, under the same commitment to key and victim."""

    async def steps(store):
        ledger = MarkLedger(store, "victim")
        made = None if medians is None else lambda: asyncio.sleep(0, medians)
        await ledger.begin(common(rate), made)
        for mark in marks:
            await ledger.add("thief", [mark])
            ledger._held["thief"].rows.clear()  # a forger need not register a row only once

    return asyncio.run(_opening(steps))


TOLD, OPENING = served()


COMMON, MARKS = OPENING.verified()


def surrogate(forgets=0.0):
    """Learnt what it was told, but for a share of it."""

    def labels_of(x):
        labels = truth(x)
        for i, row in enumerate(x):
            if row.tobytes() in TOLD and int.from_bytes(row.tobytes(), "little") % 100 >= 100 * forgets:
                labels[i] = TOLD[row.tobytes()]
        return labels

    return oracle(labels_of)


def accused(suspect, opening=None, others=None, method=None):
    """Evidence of the owner, by default about the thief's marks, and the marks' details."""
    claim = Claim(opening or OPENING, OTHERS if others is None else others)
    found = prove(method or Dawn(), suspect, claim, np.random.default_rng(0))
    return found, found.details


def judged(opening=None, *, evidence=None, key=KEY, root=None, victim=None, suspect=None, others=None):
    """Evidence of a judge, and its details; ``evidence`` replaces the opening in the owner's."""
    opening = opening or OPENING
    found, details = accused(surrogate(), evidence or opening, {})
    found = dataclasses.replace(found, details=dataclasses.replace(details, opening=opening, key=key))
    others = OTHERS if others is None else others
    found = judge(
        Dawn(), found, root or opening.root, victim or Victim(VICTIM, "ab"), suspect or surrogate(), others
    )
    return found, found.details
