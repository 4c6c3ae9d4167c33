import asyncio

import orjson
import pytest

from defenses.store import CONTROL, open_store
from server.control import log as module
from server.control.accounts import Account, hashed
from server.control.log import ControlLog
from wire import BadInput, Refused


@pytest.fixture
async def workers(tmp_path):
    """The control logs of two workers, on one store."""
    stores = [open_store(f"sqlite:///{tmp_path / 'store.sqlite'}") for _ in range(2)]
    yield [ControlLog(store, lambda: 7.0) for store in stores]
    for store in stores:
        await store.close()


def snapshot(control):
    return orjson.loads(control._snapshot())


def enters(control, key):
    try:
        return control.accounts.authenticate(f"Bearer {key}").name
    except Refused as refused:
        assert refused.status == 401
        return None


async def test_what_one_worker_writes_the_other_reads(workers):
    one, two = workers
    key = await one.accounts.create("ann", "free", "a test")
    assert enters(two, key) is None
    await two.catch_up()
    assert two.accounts.authenticate(f"bearer {key} ") == Account("ann", "free")
    await two.accounts.set_plan("ann", "paying", "a test")
    await one.catch_up()
    assert (one.accounts.all(), one.position, two.position) == ([Account("ann", "paying")], 2, 2)


async def test_keys_are_added_rotated_and_revoked(workers):
    one, two = workers
    first = await one.accounts.create("ann", "free", "a test")
    other = await one.accounts.create("bob", "free", "a test")
    second = await one.accounts.add_key("ann", "a test")
    assert [enters(one, k) for k in (first, second, other)] == ["ann", "ann", "bob"]
    assert await one.accounts.revoke("ann", "a test", only=one.accounts.keys_of("ann")[0]) == 1
    assert [enters(one, k) for k in (first, second)] == [None, "ann"]
    third = await one.accounts.rotate("ann", "a test")
    assert [enters(one, k) for k in (first, second, third, other)] == [None, None, "ann", "bob"]
    assert await one.accounts.revoke("ann", "a test") == 1
    assert [enters(one, k) for k in (third, other)] == [None, "bob"]
    fourth = await one.accounts.add_key("ann", "a test")
    await two.catch_up()
    assert [enters(two, k) for k in (third, fourth)] == [None, "ann"]


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer ", "Basic x", "Bearer é", "Bearer mlr_no"])
async def test_what_is_no_key_opens_nothing(workers, authorization):
    one = workers[0]
    await one.accounts.create("ann", "free", "a test")
    with pytest.raises(Refused) as caught:
        one.accounts.authenticate(authorization)
    assert caught.value.status == 401


async def test_two_workers_at_once_make_an_account_once(workers):
    one, two = workers
    made = await asyncio.gather(
        *[r.accounts.create("ann", "free", "a test") for r in (one, two)], return_exceptions=True
    )
    assert sum(isinstance(m, BadInput) for m in made) == 1
    many = await asyncio.gather(
        *[r.accounts.create(f"n{i}", "free", "a") for i in range(10) for r in [(one, two)[i % 2]]]
    )
    await one.catch_up()
    assert len(one.accounts.all()) == 11 and len(set(many)) == 10


async def test_what_is_not_there_is_said(workers):
    one = workers[0]
    await one.accounts.create("ann", "free", "a test")
    for work, fault in (
        (one.accounts.create("ann", "free", "a"), "already"),
        (one.accounts.create("a/b", "free", "a"), "letters"),
        (one.accounts.create("x" * 65, "free", "a"), "up to 64"),
        (one.accounts.add_key("bob", "a"), "no account 'bob'"),
        (one.accounts.revoke("bob", "a"), "no account 'bob'"),
        (one.accounts.revoke("ann", "a", only="x"), "no key 'x'; it has "),
        (one.accounts.set_plan("bob", "free", "a"), "no account 'bob'"),
    ):
        with pytest.raises(BadInput, match=fault):
            await work
    assert one.position == 1


async def test_the_audit_says_who_did_what_and_holds_no_key(workers):
    one, two = workers
    key = await one.accounts.create("ann", "free", "root")
    await one.stacks.replace("m", [{"type": "quota", "rows": 5}], "root")
    await one.accounts.revoke("ann", "boss")
    await two.catch_up()
    text = orjson.dumps(list(two.audit)).decode()
    assert key not in text and hashed(key) not in text
    assert [(event["do"], event["by"], event["at"]) for event in two.audit] == [
        ("create account", "root", 7.0),
        ("replace defenses", "root", 7.0),
        ("revoke keys", "boss", 7.0),
    ]


async def test_a_long_log_is_compacted_and_means_the_same(workers, monkeypatch):
    one, two = workers
    monkeypatch.setattr(module, "COMPACT_AFTER", 5)
    keys = [await one.accounts.create(f"n{i}", "free", "a") for i in range(6)]
    await one.stacks.replace("m", [{"type": "quota", "rows": 5}], "a")
    await two.catch_up()
    store = two.store
    tail = await store.read(CONTROL)
    assert (tail.start, len(tail.entries)) == (5, 2) and orjson.loads(tail.snapshot)["version"] == 1
    third = ControlLog(store, lambda: 7.0)
    await third.catch_up()
    assert snapshot(third) == snapshot(two) and third.position == 7
    assert [enters(third, key) for key in keys] == [f"n{i}" for i in range(6)]
    await third.accounts.revoke("n0", "a")
    await one.catch_up()
    assert enters(one, keys[0]) is None and one.position == 8


async def test_a_log_of_a_newer_server_is_refused(workers):
    one, two = workers
    await one.store.append(CONTROL, [orjson.dumps({"do": "something new"})])
    with pytest.raises(Refused, match="something new"):
        await one.catch_up()
    await one.store.compact(CONTROL, 1, orjson.dumps({"version": 99}))
    with pytest.raises(Refused, match="version 99"):
        await two.catch_up()


async def test_who_reads_on_is_told_before_the_position_can_be_used(workers, monkeypatch):
    one, two = workers
    told = []
    watched = ControlLog(two.store, lambda: 7.0, lambda: told.append(watched.position))
    compact = two.store.compact

    async def compacting(*arguments):
        told.append("compacted")
        await compact(*arguments)

    monkeypatch.setattr(two.store, "compact", compacting)
    await one.accounts.create("ann", "free", "a")
    monkeypatch.setattr(module, "COMPACT_AFTER", 1)
    await watched.catch_up()
    await watched.catch_up()
    assert told == [1, "compacted"]


async def test_a_log_that_lost_its_end_is_read_anew(workers):
    one, two = workers
    keys = [await one.accounts.create(name, "free", "a") for name in ("ann", "bob")]
    await two.catch_up()
    one.store._db.execute("DELETE FROM entries WHERE position = 1")
    await two.catch_up()
    assert [enters(two, key) for key in keys] == ["ann", None] and two.position == 1
    await two.accounts.create("eve", "free", "a")
    assert [account.name for account in two.accounts.all()] == ["ann", "eve"]


async def test_many_who_catch_up_at_once_share_a_read(workers, monkeypatch):
    two = workers[1]
    reads = []
    read = two.store.read

    async def counted(*arguments):
        reads.append(arguments)
        return await read(*arguments)

    monkeypatch.setattr(two.store, "read", counted)
    await asyncio.gather(*[two.catch_up() for _ in range(50)])
    assert len(reads) == 1


async def test_a_running_server_compacts_too(workers, monkeypatch):
    one, two = workers
    monkeypatch.setattr(module, "COMPACT_AFTER", 4)
    for i in range(9):
        await one.accounts.create(f"n{i}", "free", "a")
    tail = await one.store.read(CONTROL)
    await two.catch_up()
    assert (tail.start, len(tail.entries), snapshot(two) == snapshot(one)) == (8, 1, True)
