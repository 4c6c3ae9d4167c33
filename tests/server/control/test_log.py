import asyncio

import orjson
import pytest

from defenses.store import CONTROL, open_store
from server.control import log as module
from server.control.log import Account, ControlLog
from wire import BadInput, Refused


@pytest.fixture
def play(tmp_path):
    """Runs a script on two registries of one store, as two workers have them."""

    def run(script):
        async def go():
            stores = [open_store(f"sqlite:///{tmp_path / 'store.sqlite'}") for _ in range(2)]
            try:
                return await script(*[ControlLog(store, lambda: 7.0) for store in stores])
            finally:
                for store in stores:
                    await store.close()

        return asyncio.run(go())

    return run


def enters(registry, key):
    try:
        return registry.authenticate(f"Bearer {key}").name
    except Refused as refused:
        assert refused.status == 401
        return None


def test_what_one_worker_writes_the_other_reads(play):
    async def script(one, two):
        key = await one.create("ann", "free", "a test")
        assert enters(two, key) is None
        await two.catch_up()
        assert two.authenticate(f"bearer {key} ") == Account("ann", "free")
        await two.set_plan("ann", "paying", "a test")
        await one.catch_up()
        return one.accounts(), one.position, two.position

    assert play(script) == ([Account("ann", "paying")], 2, 2)


def test_keys_are_added_rotated_and_revoked(play):
    async def script(one, two):
        first = await one.create("ann", "free", "a test")
        other = await one.create("bob", "free", "a test")
        second = await one.add_key("ann", "a test")
        assert [enters(one, k) for k in (first, second, other)] == ["ann", "ann", "bob"]
        assert await one.revoke("ann", "a test", only=one.keys_of("ann")[0]) == 1
        assert [enters(one, k) for k in (first, second)] == [None, "ann"]
        third = await one.rotate("ann", "a test")
        assert [enters(one, k) for k in (first, second, third, other)] == [None, None, "ann", "bob"]
        assert await one.revoke("ann", "a test") == 1
        assert [enters(one, k) for k in (third, other)] == [None, "bob"]
        fourth = await one.add_key("ann", "a test")
        await two.catch_up()
        assert [enters(two, k) for k in (third, fourth)] == [None, "ann"]

    play(script)


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer ", "Basic x", "Bearer é", "Bearer mlr_no"])
def test_what_is_no_key_opens_nothing(play, authorization):
    async def script(one, two):
        await one.create("ann", "free", "a test")
        with pytest.raises(Refused) as caught:
            one.authenticate(authorization)
        assert caught.value.status == 401

    play(script)


def test_two_workers_at_once_make_an_account_once(play):
    async def script(one, two):
        made = await asyncio.gather(
            *[r.create("ann", "free", "a test") for r in (one, two)], return_exceptions=True
        )
        assert sum(isinstance(m, BadInput) for m in made) == 1
        many = await asyncio.gather(
            *[r.create(f"n{i}", "free", "a") for i in range(10) for r in [(one, two)[i % 2]]]
        )
        await one.catch_up()
        assert len(one.accounts()) == 11 and len(set(many)) == 10

    play(script)


def test_what_is_not_there_is_said(play):
    async def script(one, two):
        await one.create("ann", "free", "a test")
        for work, fault in (
            (one.create("ann", "free", "a"), "already"),
            (one.create("a/b", "free", "a"), "letters"),
            (one.create("x" * 65, "free", "a"), "up to 64"),
            (one.add_key("bob", "a"), "no account 'bob'"),
            (one.revoke("bob", "a"), "no account 'bob'"),
            (one.revoke("ann", "a", only="x"), "no key 'x'; it has "),
            (one.set_plan("bob", "free", "a"), "no account 'bob'"),
        ):
            with pytest.raises(BadInput, match=fault):
                await work
        assert one.position == 1

    play(script)


def test_the_audit_says_who_did_what_and_holds_no_key(play):
    async def script(one, two):
        key = await one.create("ann", "free", "root")
        await one.replace_stack("m", [{"type": "quota", "rows": 5}], "root")
        await one.revoke("ann", "boss")
        await two.catch_up()
        text = orjson.dumps(two.state.audit).decode()
        assert key not in text and module._hashed(key) not in text
        return [(event["do"], event["by"], event["at"]) for event in two.state.audit]

    assert play(script) == [
        ("create account", "root", 7.0),
        ("replace defenses", "root", 7.0),
        ("revoke keys", "boss", 7.0),
    ]


def test_a_long_log_is_compacted_and_means_the_same(play, monkeypatch):
    monkeypatch.setattr(module, "COMPACT_AFTER", 5)

    async def script(one, two):
        keys = [await one.create(f"n{i}", "free", "a") for i in range(6)]
        await one.replace_stack("m", [{"type": "quota", "rows": 5}], "a")
        await two.catch_up()
        store = two._store
        tail = await store.read(CONTROL)
        assert (tail.start, len(tail.entries)) == (5, 2) and orjson.loads(tail.snapshot)["version"] == 1
        third = ControlLog(store, lambda: 7.0)
        await third.catch_up()
        assert third.state == two.state and third.position == 7
        assert [enters(third, key) for key in keys] == [f"n{i}" for i in range(6)]
        await third.revoke("n0", "a")
        await one.catch_up()
        assert enters(one, keys[0]) is None and one.position == 8

    play(script)


def test_a_log_of_a_newer_server_is_refused(play):
    async def script(one, two):
        await one._store.append(CONTROL, [orjson.dumps({"do": "something new"})])
        with pytest.raises(Refused, match="something new"):
            await one.catch_up()
        await one._store.compact(CONTROL, 1, orjson.dumps({"version": 99}))
        with pytest.raises(Refused, match="of version 99"):
            await two.catch_up()

    play(script)


def test_who_reads_on_is_told_before_the_position_can_be_used(play, monkeypatch):
    async def script(one, two):
        told = []
        watched = ControlLog(two._store, lambda: 7.0, lambda: told.append(watched.position))
        compact = two._store.compact

        async def compacting(*arguments):
            told.append("compacted")
            await compact(*arguments)

        monkeypatch.setattr(two._store, "compact", compacting)
        await one.create("ann", "free", "a")
        monkeypatch.setattr(module, "COMPACT_AFTER", 1)
        await watched.catch_up()
        await watched.catch_up()
        return told

    assert play(script) == [1, "compacted"]


def test_a_log_that_lost_its_end_is_read_anew(play):
    async def script(one, two):
        keys = [await one.create(name, "free", "a") for name in ("ann", "bob")]
        await two.catch_up()
        one._store._db.execute("DELETE FROM entries WHERE position = 1")
        await two.catch_up()
        assert [enters(two, key) for key in keys] == ["ann", None] and two.position == 1
        await two.create("eve", "free", "a")
        assert [account.name for account in two.accounts()] == ["ann", "eve"]

    play(script)


def test_many_who_catch_up_at_once_share_a_read(play, monkeypatch):
    async def script(one, two):
        reads = []
        read = two._store.read

        async def counted(*arguments):
            reads.append(arguments)
            return await read(*arguments)

        monkeypatch.setattr(two._store, "read", counted)
        await asyncio.gather(*[two.catch_up() for _ in range(50)])
        return len(reads)

    assert play(script) == 1


def test_a_running_server_compacts_too(play, monkeypatch):
    monkeypatch.setattr(module, "COMPACT_AFTER", 4)

    async def script(one, two):
        for i in range(9):
            await one.create(f"n{i}", "free", "a")
        tail = await one._store.read(CONTROL)
        await two.catch_up()
        return tail.start, len(tail.entries), two.state == one.state

    assert play(script) == (8, 1, True)
