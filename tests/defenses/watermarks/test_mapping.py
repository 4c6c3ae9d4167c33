"""DAWN's mappings: the exact row, and the cell of its activations."""

import asyncio
import hashlib
import hmac

import numpy as np
import orjson
import pytest
from sites import site

from defenses import Dawn
from defenses.store import open_store
from defenses.watermarks.ledger import MarkLedger
from defenses.watermarks.mapping import rate_spread
from wire import Answer, BadInput, Card, Query
from zoo.data.pool import Pool

SECRET = bytes(range(32))
CARD = Card("m", (4,), 5)
UNITS = 100
RNG = np.random.default_rng(0)
WEIGHTS = RNG.standard_normal((4, UNITS)).astype(np.float32)
X = RNG.standard_normal((500, 4)).astype(np.float32)
Y = (X * np.float32(1 + 1e-6)).astype(np.float32)  # near-duplicates
LABELS = RNG.integers(0, 5, 500)


class Companions:
    """A penultimate layer whose numbers depend on each row alone."""

    def __init__(self, weights=WEIGHTS):
        self.weights = weights

    def of(self, x):
        return np.maximum((x[:, :, None] * self.weights).sum(axis=1), 0)

    async def activations(self, x):
        return self.of(x)

    async def activation_bits(self, limits):
        async def compared(x):
            found = self.of(x)
            return np.stack([np.broadcast_to(limits, found.shape), found], axis=1)

        return compared


def bits(x, rows=X):
    return Companions().of(x) > np.median(Companions().of(rows), axis=0)


@pytest.fixture
def pool(tmp_path):
    Pool(X).save(tmp_path / "rows.npz")
    return tmp_path / "rows.npz"


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'store.sqlite'}"


def place(store, companions=None, model="m"):
    return site(CARD, model=model, fingerprint="ab", secret=SECRET, store=store, companions=companions)


async def asked(url, x, pool=None, account="a", companions=None, **changes):
    """Starts a layer on a store, as a process does, and asks about rows; returns the answer and the opening."""
    store = open_store(url)
    dawn = Dawn(**{"rate": 0.3, "mapping": "median", "pool": pool} | changes)
    layer = dawn.bind(place(store, companions or Companions()))
    try:
        await layer.start()
        answer = await layer(Query(account, x, 1.0), handle)
        await MarkLedger(store, "m").commit(2.0)
        return answer, await MarkLedger(store, "m").open(account)
    finally:
        await store.close()


async def handle(query):
    return Answer(LABELS[: len(query.x)], np.eye(5, dtype=np.float32)[LABELS[: len(query.x)]])


async def test_rows_of_a_cell_get_the_label_that_hmac_says(url, pool):
    answer, opening = await asked(url, X, pool)
    twin, _ = await asked(url, Y, account="b")
    keys = [hmac.digest(SECRET, use, "sha256") for use in (b"dawn decision", b"dawn label")]
    told = LABELS.copy()
    cells = [np.packbits(row).tobytes() for row in bits(X)]
    for i, cell in enumerate(cells):
        first, second = (hmac.digest(key, b"median 100\n" + cell, hashlib.sha256) for key in keys)
        if int.from_bytes(first[:16], "big") < 0.3 * 2**128:
            told[i] = [k for k in range(5) if k != LABELS[i]][int.from_bytes(second[:16], "big") % 4]
    np.testing.assert_array_equal(answer.labels, told)
    same = (bits(X) == bits(Y)).all(axis=1)
    assert same.sum() > 480
    np.testing.assert_array_equal(answer.labels[same], twin.labels[same])

    common, marks = opening.verified()
    rows = np.flatnonzero(told != LABELS)
    assert [(m.row, m.cell) for m in marks] == [(X[i].tobytes(), cells[i].hex()) for i in rows]
    assert 100 < len(rows) < 200 and common.mapping == "median"
    np.testing.assert_array_equal(common.limits, np.median(Companions().of(X), axis=0))


async def test_medians_are_those_of_the_first_start(url, pool, tmp_path):
    first, opening = await asked(url, X, pool)
    Pool(X[:9] + 1).save(tmp_path / "other.npz")
    for where in (None, tmp_path / "other.npz", tmp_path / "none.npz"):
        later, reopened = await asked(url, X[::-1][:50], where)
        marked = later.labels != LABELS[:50]
        np.testing.assert_array_equal(marked, (first.labels != LABELS)[::-1][:50])
        assert reopened.parameters == opening.parameters
    with pytest.raises(BadInput, match="made with mapping median, not exact"):
        await asked(url, X, mapping="exact")


async def test_workers_that_start_at_once_have_the_medians_of_one(store_url, tmp_path):
    layers, stores = [], [open_store(store_url) for _ in range(3)]
    for i, store in enumerate(stores):
        Pool(X[i * 100 :] + i).save(tmp_path / f"{i}.npz")
        layers.append(Dawn(0.3, "median", tmp_path / f"{i}.npz").bind(place(store, Companions())))
    await asyncio.gather(*(layer.start() for layer in layers))
    first, *others = await asyncio.gather(*(layer(Query("a", X, 1.0), handle) for layer in layers))
    for store in stores:
        await store.close()
    for other in others:
        np.testing.assert_array_equal(other.labels, first.labels)


async def test_an_exact_ledger_stays_what_it_was(url, pool):
    _, opening = await asked(url, X, mapping="exact")
    said = {"model": "m", "rate": 0.3, "classes": 5, "key": hashlib.sha256(b"dawn key\n" + SECRET).hexdigest()}
    assert opening.parameters == orjson.dumps({**said, "victim": "ab", "grid": "0.0 1.0"})
    entry = orjson.loads(opening.entries[0].partition(b"\n")[0])
    assert list(entry) == ["previous", "form", "said", "told", "at"]
    with pytest.raises(BadInput, match="made with mapping exact, not median"):
        await asked(url, X, pool)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "needs a pool of rows at the first start"),
        ({"pool": "rows.npz", "companions": Companions(WEIGHTS[:, :63])}, "63 units of .* expected at least 64"),
        ({"pool": "rows.npz", "companions": Companions(WEIGHTS * (np.arange(UNITS) < 60))}, "60 units"),
        ({"pool": "none.npz"}, "no such file"),
        ({"pool": "rows.npz", "mapping": "exact"}, "the exact mapping takes no pool"),
    ],
)
async def test_what_cannot_be_mapped_is_refused(url, pool, changes, told):
    if "pool" in changes:
        changes = {**changes, "pool": pool.parent / changes["pool"]}
    with pytest.raises(BadInput, match=told):
        await asked(url, X, **changes)


async def test_too_few_cells_are_logged(url, tmp_path, caplog):
    Pool(np.repeat(X[:20], 30, axis=0)).save(tmp_path / "twenty.npz")
    await asked(url, X[:5], tmp_path / "twenty.npz")
    assert "the realised rate is 0.3 give or take 34 %" in caplog.text


def test_the_spread_of_the_rate_is_that_over_keys():
    sizes = np.array([300, 200, 100, *[1] * 400])
    rows = [int(cell).to_bytes(2, "big") for cell, size in enumerate(sizes) for _ in range(size)]
    marked = np.random.default_rng(1).random((20_000, len(sizes))) < 0.1
    realised = marked @ sizes / sizes.sum()
    assert rate_spread(rows, 0.1) == pytest.approx(realised.std() / 0.1, rel=0.05)
    assert rate_spread([bytes([i]) for i in range(200)], 0.1) == 0
