"""DAWN: which rows are marked, what they are answered, and what the ledger knows of it."""

import asyncio
import hashlib
import hmac
import math
import sqlite3
import struct
from dataclasses import replace

import numpy as np
import pytest
from dawn_parts import CARD, PROBS, SECRET, X, dawn, opened_store, probs_of, victim
from scipy import stats

from defenses.answers.renormalised import relabelled
from defenses.store import open_store
from defenses.watermarks.key import WatermarkKey
from defenses.watermarks.ledger import MarkLedger, WatermarkParameters
from owner.counted_marks import counted, mapped
from wire import Answer, BadInput, Card, Query, Refused

LABELS = PROBS.argmax(axis=1)


def expected(row, label, classes, rate):
    """The false label of a float32 row, or None: by the standard library alone."""
    parts = [math.frexp(number) for number in row.ravel().tolist()]
    numbers = [math.ldexp(round(significand * 2**12), exponent - 12) for significand, exponent in parts]
    message = f"point {'x'.join(map(str, row.shape))}\n".encode() + struct.pack(f"<{row.size}f", *numbers)
    keys = [hmac.digest(SECRET, use, "sha256") for use in (b"dawn decision", b"dawn label")]
    first, second = (hmac.new(key, message, hashlib.sha256).digest() for key in keys)
    if int.from_bytes(first[:16], "big") >= rate * 2**128:
        return None
    others = [other for other in range(classes) if other != label]
    return others[int.from_bytes(second[:16], "big") % len(others)]


MARKED = [i for i, row in enumerate(X) if expected(row, LABELS[i], 5, 0.2) is not None]


async def asked(store, x, account="a", at=7.0, handle=victim, rate=0.2, **changes):
    """Starts a layer, as a process does, and asks about rows."""
    layer = dawn(store, rate, **changes)
    await layer.start()
    return await layer(Query(account, x, at), handle)


async def marks_of(store, account="a"):
    await MarkLedger(store, "m").commit(9.0)
    return (await MarkLedger(store, "m").open(account)).verified()


async def test_decisions_and_labels_are_what_hmac_says(store_url):
    async with opened_store(store_url) as store:
        answer = await asked(store, X)
    for i, row in enumerate(X):
        told = expected(row, LABELS[i], 5, 0.2)
        assert answer.labels[i] == (LABELS[i] if told is None else told)
        swapped = PROBS[i].copy()
        if told is not None:
            swapped[[LABELS[i], told]] = swapped[[told, LABELS[i]]]
        np.testing.assert_array_equal(answer.probs[i], swapped)
    assert stats.binomtest(len(MARKED), len(X), 0.2).pvalue > 1e-3
    np.testing.assert_array_equal(answer.probs.argmax(axis=1), answer.labels)
    np.testing.assert_array_equal(PROBS, probs_of(X))  # the victim's own answer is left alone


async def test_every_account_gets_the_same_answer_in_any_company_and_after_a_restart(store_url):
    async with opened_store(store_url) as store:
        one, other, again = await asked(store, X), await asked(store, X[::-1], "b"), await asked(store, X)
    async with opened_store(store_url) as store:
        later = await asked(store, X[::2])
    np.testing.assert_array_equal(one.labels, other.labels[::-1])
    np.testing.assert_array_equal(one.probs, again.probs)
    np.testing.assert_array_equal(later.probs, one.probs[::2])


async def test_the_rate_is_kept_and_false_labels_are_even():
    x = np.random.default_rng(1).random((20_000, 3), np.float32)

    async def handle(query):
        return Answer(np.zeros(len(x), np.int64), np.eye(10, dtype=np.float32)[np.zeros(len(x), int)])

    async with opened_store() as store:
        answer = await asked(store, x, handle=handle, rate=0.01, card=Card("m", (3,), 10))
    told = answer.labels[answer.labels != 0]
    assert stats.binomtest(len(told), len(x), 0.01).pvalue > 1e-3
    assert stats.chisquare(np.bincount(told, minlength=10)[1:]).pvalue > 1e-3


def test_128_bits_decide():
    key, decision = WatermarkKey(SECRET), hmac.digest(SECRET, b"dawn decision", "sha256")
    for point in (bytes([i]) for i in range(50)):
        drawn = int.from_bytes(hmac.digest(decision, b"form\n" + point, "sha256")[:16], "big") / 2**128
        assert key.marked(np.nextafter(drawn, 1), "form", [point]) == [0]
        assert key.marked(np.nextafter(drawn, 0), "form", [point]) == []


def test_the_answer_that_is_changed_is_a_copy():
    answer = Answer(np.int64([1, 0]), np.float32([[0.2, 0.8], [1, 0]]))
    told = relabelled(answer, np.array([0]), np.array([0]))
    assert told.labels.tolist() == [0, 0] and told.probs[0].tolist() == answer.probs[0, ::-1].tolist()
    assert answer.labels.tolist() == [1, 0] and answer.probs[0, 0] < 0.5


async def test_rows_that_no_model_tells_apart_are_one_row():
    x = np.float32([[0.0, np.nan], [-0.0, -np.nan]] * 200)
    x += np.repeat(np.arange(200, dtype=np.float32), 2)[:, None]
    x[:2, 0] = 0.0, -0.0

    async def handle(query):
        return Answer(np.zeros(400, np.int64), np.full((400, 2), 0.5, np.float32))

    async with opened_store() as store:
        answer = await asked(store, x, handle=handle, rate=0.5, card=Card("m", (2,), 2, missing=True))
    np.testing.assert_array_equal(answer.labels[::2], answer.labels[1::2])
    assert 0 < answer.labels.sum() < 400
    np.testing.assert_array_equal(answer.probs.argmax(axis=1), answer.labels)  # even where all were alike


async def test_copies_of_a_row_that_differ_in_denormals_are_marked_alike_and_count_once():
    x = np.zeros((256, 4), np.float32)
    x[:, 0] = np.arange(256, dtype=np.float32) * np.float32(1e-45)
    for secret in (bytes([i]) * 32 for i in range(9)):
        async with opened_store() as store:
            labels = (await asked(store, x, handle=one_class, rate=0.5, secret=secret)).labels
            assert len(set(labels)) == 1
            if labels[0] == 0:
                continue
            await MarkLedger(store, "m").commit(9.0)
            opening = await MarkLedger(store, "m").open("a")
        parameters, marks = counted(opening)
        assert len(opening.verified()[1]) == 256 and len(marks) == 1
        form, point = mapped(parameters, marks[0])
        assert WatermarkKey(secret).marked(0.5, form, [point]) == [0]


async def one_class(query):
    n = len(query.x)
    return Answer(np.zeros(n, np.int64), np.eye(5, dtype=np.float32)[np.zeros(n, int)])


async def test_a_ledger_that_was_begun_without_a_grid_stays_without():
    x = np.zeros((256, 4), np.float32)
    x[:, 0] = np.arange(256, dtype=np.float32) * np.float32(1e-45)
    async with opened_store() as store:
        parameters = WatermarkParameters("m", 0.5, 5, WatermarkKey(SECRET).commitment, "ab")
        await MarkLedger(store, "m").begin(parameters)
        labels = (await asked(store, x, handle=one_class, rate=0.5)).labels
        await MarkLedger(store, "m").commit(9.0)
        opening = await MarkLedger(store, "m").open("a")
    parameters, marks = counted(opening)
    assert parameters.grid is None and 80 < len(marks) == (labels != 0).sum() < 176
    assert all(mapped(parameters, mark) == (mark.form, mark.row) for mark in marks)


@pytest.mark.parametrize("kind", ["uint8", "text"])
async def test_other_kinds_of_rows_are_marked_and_come_back(kind):
    x = np.arange(300, dtype=np.int64).reshape(100, 3)
    x = x.astype(np.uint8) if kind == "uint8" else np.array([f"façade {i}" for i in range(100)], object)

    async def handle(query):
        return Answer(np.zeros(100, np.int64), np.eye(5, dtype=np.float32)[np.zeros(100, int)])

    async with opened_store() as store:
        answer = await asked(store, x, handle=handle, rate=0.3)
        _, marks = await marks_of(store)
    rows = np.flatnonzero(answer.labels)
    assert len(marks) == len(rows) > 10
    for mark, i in zip(marks, rows, strict=True):
        np.testing.assert_array_equal(mark.x, x[i])
        assert (mark.victim_label, mark.told_label) == (0, answer.labels[i])


async def test_the_ledger_has_every_mark_of_an_account_once(store_url):
    async with opened_store(store_url) as store:
        await asked(store, X[:300])
        await asked(store, X, at=8.0)
        await asked(store, X[:50], "b")
        parameters, marks = await marks_of(store)
        _, others = await marks_of(store, "b")
    assert [mark.row for mark in marks] == [X[i].tobytes() for i in MARKED]
    assert [mark.victim_label for mark in marks] == LABELS[MARKED].tolist()
    assert [mark.at for mark in marks] == [7.0 if i < 300 else 8.0 for i in MARKED]
    assert len(others) == sum(i < 50 for i in MARKED)
    assert (parameters.rate, parameters.classes, parameters.victim) == (0.2, 5, "ab")
    assert parameters.key == hashlib.sha256(b"dawn key\n" + SECRET).hexdigest()


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"rate": 0.1}, "rate 0.2, not 0.1"),
        ({"fingerprint": "cd"}, "victim ab, not cd"),
        ({"secret": b"k"}, "key "),
    ],
)
async def test_a_layer_of_other_parameters_does_not_start(changes, fault):
    async with opened_store() as store:
        await asked(store, X[:5])
        with pytest.raises(BadInput, match=f"marks of model m were made with {fault}"):
            await dawn(store, **changes).start()


async def test_a_ledger_that_is_damaged_while_serving_is_refused(tmp_path):
    async with opened_store(f"sqlite:///{tmp_path / 'store.sqlite'}") as store:
        layer = dawn(store)
        await layer.start()
        await layer(Query("a", X[:200], 0.0), victim)
        with sqlite3.connect(tmp_path / "store.sqlite") as db:
            db.execute("DELETE FROM entries WHERE log = 'marks/m/a' AND position > 3")
        db.close()
        with pytest.raises(Refused, match="the ledger of this model's marks is inconsistent") as refused:
            await layer(Query("a", X[200:], 0.0), victim)
        assert refused.value.status == 503
        honest = [i for i in range(200, 400) if i not in MARKED]
        answer = await layer(Query("a", X[honest], 0.0), victim)
        np.testing.assert_array_equal(answer.labels, LABELS[honest])


async def test_the_number_of_trips_to_the_store_does_not_tell_a_mark(store_url, monkeypatch):
    trips = []

    def count_calls(store, name):
        call = getattr(store, name)

        def count(*given, **more):
            trips.append(name)
            return call(*given, **more)

        monkeypatch.setattr(store, name, count)

    async with opened_store(store_url) as store:
        layer = dawn(store)
        await layer.start()
        await layer(Query("a", X[:1], 7.0), victim)
        for name in ("append", "probe", "charge", "charge_all", "read", "levels"):
            count_calls(store, name)
        found = {}
        for again in (False, True):
            for i in range(1, 60):
                trips.clear()
                await layer(Query("a", X[i : i + 1], 7.0), victim)
                found.setdefault((i in MARKED, again), set()).add(tuple(trips))
        assert len(found) == 4
        assert found.pop((True, False)) == {("append", "charge")}  # a first answer about a marked row
        assert set.union(*found.values()) == {("probe", "charge")}


@pytest.mark.parametrize("fails", ["append", "charge", "read", "levels"])
@pytest.mark.parametrize("started", [False, True])
async def test_no_mark_is_answered_unless_it_is_registered(fails, started):
    async def away(*arguments, **options):
        raise Refused("the store is unavailable", status=503, retry_after=1)

    async with opened_store() as store:
        layer = dawn(store)
        if started:
            await layer.start()
        working = getattr(store, fails)
        setattr(store, fails, away)
        with pytest.raises(Refused, match="unavailable"):
            await layer(Query("a", X, 0.0), victim)
        setattr(store, fails, working)
        answer = await layer(Query("a", X, 0.0), victim)
        _, marks = await marks_of(store)
        assert len(marks) == (answer.labels != LABELS).sum() == len(MARKED)
        assert (await store.levels("marks/m/a"))["length"].as_of == len(marks)


async def test_workers_and_tasks_share_an_account(store_url):
    stores = [open_store(store_url) for _ in range(3)]
    layers = [dawn(store) for store in stores]
    for layer in layers:
        await layer.start()
    starts = [5 * i % 380 for i in range(150)]
    answers = await asyncio.gather(
        *(layers[i % 3](Query("ab"[i % 2], X[start : start + 20], 0.0), victim) for i, start in enumerate(starts))
    )
    told = {"a": set(), "b": set()}
    for i, (start, answer) in enumerate(zip(starts, answers, strict=True)):
        told["ab"[i % 2]] |= {start + int(j) for j in np.flatnonzero(answer.labels != LABELS[start : start + 20])}
    for account, rows in told.items():
        registered = [mark.row for mark in (await marks_of(stores[0], account))[1]]
        assert len(registered) == len(set(registered)) and set(registered) == {X[i].tobytes() for i in rows}
    for store in stores:
        await store.close()


async def test_another_model_has_other_marks_under_its_own_key():
    async with opened_store() as store:
        one = await asked(store, X)
        other = await asked(store, X, model="n", card=replace(CARD, model="n"), secret=bytes(32))
    both = ((one.labels != LABELS) & (other.labels != LABELS)).sum()
    assert stats.binomtest(int(both), len(X), 0.04).pvalue > 1e-3
