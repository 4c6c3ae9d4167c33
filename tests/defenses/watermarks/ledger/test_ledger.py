"""The ledger of marks: what it keeps, what its commitments bind, and what damage it finds."""

import asyncio
import base64
import hashlib
import json
import sqlite3
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
import orjson
import pytest

from defenses.store import open_store
from defenses.watermarks.ledger import Broken, Mark, MarkLedger, Opening, WatermarkParameters, encode_rows, ledger
from wire import BadInput

PARAMETERS = WatermarkParameters("m", 0.2, 5, "11" * 32, "ab")
X = np.random.default_rng(0).standard_normal((400, 4)).astype(np.float32)


def marks(rows, at=7.0):
    form, encodings = encode_rows(X[rows])
    return [Mark(form, row, i % 5, (i + 1) % 5, at) for i, row in enumerate(encodings)]


@asynccontextmanager
async def opened_store(url):
    store = open_store(url)
    try:
        yield store
    finally:
        await store.close()


async def begun(store, **changes):
    found = MarkLedger(store, "m")
    await found.begin(replace(PARAMETERS, **changes))
    return found


async def opening_of(store, account="a", at=9.0):
    await MarkLedger(store, "m").commit(at)
    return await MarkLedger(store, "m").open(account)


async def test_each_row_of_an_account_is_registered_once(store_url):
    async with opened_store(store_url) as store:
        first, second = await begun(store), await begun(store)
        await first.add("a", marks(range(60)))
        await second.add("a", marks(range(40, 100), at=8.0))
        await second.add("b", marks(range(5)))
        made = await first.commit(9.0)
        opening = await second.open("a")
        parameters, found = opening.verified()
        assert parameters == PARAMETERS and opening.root == made.root and made.marks == 105
        assert [mark.row for mark in found] == [row.tobytes() for row in X[:100]]
        assert [mark.at for mark in found] == [7.0] * 60 + [8.0] * 40
        assert found[:60] == marks(range(60))
        assert (await second.open("b")).verified()[1] == marks(range(5))


async def test_many_writers_share_an_account(store_url):
    stores = [open_store(store_url) for _ in range(3)]
    ledgers = [await begun(store) for store in stores]
    await asyncio.gather(
        *(ledgers[i % 3].add("ab"[i % 2], marks(range(5 * i % 380, 5 * i % 380 + 20))) for i in range(60))
    )
    for account in "ab":
        found = [mark.row for mark in (await opening_of(stores[0], account)).verified()[1]]
        i = [
            at
            for number in range(60)
            if "ab"[number % 2] == account
            for at in range(5 * number % 380, 5 * number % 380 + 20)
        ]
        assert len(found) == len(set(found)) and set(found) == {X[at].tobytes() for at in i}
    for store in stores:
        await store.close()


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"rate": 0.1}, "rate 0.2, not 0.1"),
        ({"victim": "cd"}, "victim ab, not cd"),
        ({"key": "22" * 32}, "key 1111"),
        ({"classes": 6}, "classes 5, not 6"),
    ],
)
async def test_the_parameters_are_fixed(store_url, changes, fault):
    async with opened_store(store_url) as store:
        await begun(store)
        with pytest.raises(BadInput, match=f"marks of model m were made with {fault}"):
            await begun(store, **changes)


async def test_the_stored_form_is_that_of_earlier_versions():
    async with opened_store("sqlite://") as store:
        await (await begun(store)).add("a", marks(range(2)))
        index, log = (await store.read("marks/m")).entries, (await store.read("marks/m/a")).entries
        expected = {"model": "m", "rate": 0.2, "classes": 5, "key": "11" * 32, "victim": "ab"}
        assert (
            index[0]
            == orjson.dumps({"previous": hashlib.sha256(b"marks/m").hexdigest(), "common": expected}) + b"\n"
        )
        assert orjson.loads(index[1]) == {"previous": hashlib.sha256(index[0]).hexdigest(), "account": "a"}
        line, _, row = log[1].partition(b"\n")
        assert orjson.loads(line) == {
            "previous": hashlib.sha256(log[0]).hexdigest(),
            "form": "<f4 4",
            "said": 1,
            "told": 2,
            "at": 7.0,
        }
        assert row == X[1].tobytes()


async def test_a_commitment_binds_the_marks_that_there_were():
    async with opened_store("sqlite://") as store:
        with pytest.raises(BadInput, match="has no ledger of marks"):
            await MarkLedger(store, "m").commit(0.0)
        one = await begun(store)
        await one.add("a", marks(range(50)))
        with pytest.raises(BadInput, match="the marks of model m have no commitment yet: commit first"):
            await MarkLedger(store, "m").open("a")
        first = await MarkLedger(store, "m").commit(1.0)
        assert await MarkLedger(store, "m").commit(2.0) == first == await one.commit(3.0)  # nothing is new
        await one.add("a", marks(range(70)))
        await one.add("b", marks(range(70)))
        second = await MarkLedger(store, "m").commit(3.0)
        then, now = await MarkLedger(store, "m").open("a", first.root), await MarkLedger(store, "m").open("a")
        assert (then.root, now.root) == (first.root, second.root) and first.root != second.root
        assert (then.committed_at, now.committed_at) == (1.0, 3.0)
        old, new = then.verified()[1], now.verified()[1]
        assert new[:50] == old and (len(new), len(old), first.marks, second.marks) == (70, 50, 50, 140)
        for root, account in ((first.root, "b"), ("77", "a")):
            with pytest.raises(BadInput, match="commitment"):
                await one.open(account, root)


async def test_who_commit_at_once_get_one_commitment(store_url):
    async with opened_store(store_url) as store:
        await (await begun(store)).add("a", marks(range(9)))
        made = await asyncio.gather(*(MarkLedger(store, "m").commit(float(at)) for at in range(4)))
        assert len(set(made)) == 1


async def test_an_opening_hides_the_other_accounts():
    async with opened_store("sqlite://") as store:
        one = await begun(store)
        for name in ("a", "bob", "eve"):
            await one.add(name, marks(range(5)))
        first = await opening_of(store)
        await one.add("eve", marks(range(6)))
        second = await opening_of(store)
        assert len(first.accounts) == len(second.accounts) == 3 and list(first.accounts) == sorted(first.accounts)
        assert not set(first.accounts) & set(second.accounts)  # a salt of its own: no account can be followed
        text = first.to_json()
        assert b"bob" not in text and b"eve" not in text and first.blinding != second.blinding


async def changed_openings():
    async with opened_store("sqlite://") as store:
        one = await begun(store)
        await one.add("a", marks(range(80)))
        await one.add("b", marks(range(20)))
        opening, other = await opening_of(store), await opening_of(store, "b")
    entries = opening.entries
    line, _, row = entries[3].partition(b"\n")
    told = json.loads(line)
    forged = json.dumps({**told, "told": (told["told"] + 1) % 5}).encode() + b"\n" + row
    return opening, {
        "last mark left out": replace(opening, entries=entries[:-1]),
        "first mark left out": replace(opening, entries=entries[1:]),
        "label changed": replace(opening, entries=(*entries[:3], forged, *entries[4:])),
        "row changed": replace(opening, entries=(*entries[:-1], entries[-1][:-1] + b"x")),
        "other account": replace(opening, account="b"),
        "other account's marks": replace(opening, entries=other.entries),
        "other root": replace(opening, root="00" * 32),
        "other parameters": replace(opening, parameters=opening.parameters.replace(b"0.2", b"0.3")),
        "account hidden": replace(opening, accounts=opening.accounts[:-1]),
        "account added": replace(opening, accounts=(*opening.accounts, "00" * 32)),
        "other blinding": replace(opening, blinding=other.blinding),
        "other model": replace(opening, model="n"),
    }


async def test_nothing_in_an_opening_can_be_changed_added_or_left_out():
    opening, changed = await changed_openings()
    assert len(opening.verified()[1]) == 80
    assert Opening.from_json(opening.to_json(), "there") == opening
    for name, forged in changed.items():
        with pytest.raises(Broken):
            pytest.fail(f"{name}: {forged.verified()[0]}")


async def test_an_opening_of_an_earlier_version_is_named():
    opening, _ = await changed_openings()
    earlier = json.loads(opening.to_json())
    del earlier["blinding"], earlier["accounts"]
    earlier["common"] = base64.b64encode(earlier.pop("parameters").encode()).decode()
    earlier["account_proof"] = earlier["common_proof"] = {"index": 0, "size": 1, "path": []}
    with pytest.raises(BadInput, match=r"there: .*opened by an earlier version.*commit and fetch the marks again"):
        Opening.from_json(json.dumps(earlier), "there")
    with pytest.raises(BadInput, match="there: not the marks of an account"):
        Opening.from_json(b"{", "there")


async def test_a_commitment_of_an_earlier_version_stays_but_is_not_opened():
    async with opened_store("sqlite://") as store:
        one = await begun(store)
        await one.add("a", marks(range(3)))
        state = await one.read()
        await one._index.append(
            lambda: [] if one._commitments else [({"root": "cd" * 32, "at": 1.0, "accounts": state}, b"")]
        )
        with pytest.raises(BadInput, match=r"commitment cdcd.*earlier version.*commit again"):
            await MarkLedger(store, "m").open("a")
        made = await MarkLedger(store, "m").commit(2.0)
        assert made.root != "cd" * 32 and (await one.open("a")).root == made.root


DAMAGE = {
    "marks/m/a: the log has 9 entries, but": "DELETE FROM entries WHERE log = 'marks/m/a' AND position > 8",
    "marks/m/a: entry 4 follows": "DELETE FROM entries WHERE log = 'marks/m/a' AND position = 4",
    "marks/m/a: the log has 0 entries, but": "DELETE FROM entries WHERE log = 'marks/m/a'",
    "marks/m: the log has 1 entries, but": "DELETE FROM entries WHERE log = 'marks/m' AND position = 1",
    "marks/m: the log has 0 entries, but": "DELETE FROM entries WHERE log = 'marks/m'",
    "entry 0 is invalid": "UPDATE entries SET entry = x'00' WHERE log = 'marks/m/a' AND position = 0",
    "marks/m/a: entry 3 follows": "UPDATE entries SET entry = changed(entry) WHERE log LIKE '%a' AND position = 2",
}


@pytest.mark.parametrize("fault", DAMAGE)
async def test_damage_is_found_and_named(tmp_path, fault):
    url = f"sqlite:///{tmp_path / 'store.sqlite'}"
    async with opened_store(url) as store:
        await (await begun(store)).add("a", marks(range(80)))
    with sqlite3.connect(tmp_path / "store.sqlite") as db:
        db.create_function("changed", 1, lambda entry: entry[:-1] + bytes([entry[-1] ^ 1]))
        assert db.execute(DAMAGE[fault]).rowcount
    db.close()
    async with opened_store(url) as store:
        with pytest.raises(Broken, match=fault):
            await (await begun(store)).read()


async def test_a_ledger_keeps_few_rows_in_memory_and_registers_each_once(monkeypatch):
    monkeypatch.setattr(ledger, "_HELD", 60)
    async with opened_store("sqlite://") as store:
        one, told = await begun(store), {}
        for i in range(40):
            account, rows = f"a{i % 7}", range(37 * i % 370, 37 * i % 370 + 30)
            await one.add(account, marks(rows))
            told.setdefault(account, set()).update(X[row].tobytes() for row in rows)
            held = [len(known.rows) for known in one._held.values()]
            assert sum(held) <= max(60, len(one._held[account].rows))
        assert await one.commit(1.0) == await MarkLedger(store, "m").commit(2.0) == await one.commit(3.0)
        for account, rows in told.items():
            found = [mark.row for mark in (await one.open(account)).verified()[1]]
            assert len(found) == len(set(found)) > 60 and set(found) == rows


MARK = marks(range(1))[0]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"row": MARK.row[:-4] + b"\0\0\0\x80"}, "non-canonical encoding"),  # -0.0 for 0.0
        ({"form": "<f4 04"}, "non-canonical encoding"),
        ({"form": "<f4 7"}, "does not hold a row"),
        ({"form": "object 4"}, "does not hold a row"),
        ({"form": "text 4"}, "does not hold a row"),
        ({"told_label": "3"}, "not integers"),
        ({"victim_label": True}, "not integers"),
        ({"at": None}, r"has the members \['form', 'said', 'told'\]; expected \['at', "),
    ],
)
async def test_a_mark_is_a_canonical_row_and_two_labels(changes, fault):
    async with opened_store("sqlite://") as store:
        await (await begun(store)).add("a", [replace(MARK, **changes)])
        with pytest.raises(Broken, match=fault):
            await opening_of(store)


@pytest.mark.parametrize(
    "x",
    [
        np.arange(12, dtype=np.uint8).reshape(4, 3),
        np.array([[f"façade {i}", "x"] for i in range(4)], object),
        X[:4].reshape(4, 2, 2),
    ],
    ids=["bytes", "texts", "floats"],
)
def test_rows_come_back(x):
    form, rows = encode_rows(x)
    for row, encoding in zip(x, rows, strict=True):
        np.testing.assert_array_equal(Mark(form, encoding, 0, 1, 0.0).x, row)


def test_rows_that_no_model_tells_apart_are_encoded_alike():
    x = np.float32([[0.0, np.nan], [-0.0, -np.nan], [0.0, 1.0]])
    one, other, third = encode_rows(x)[1]
    assert one == other != third
