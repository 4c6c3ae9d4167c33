"""Stores that are away, slow, locked or broken."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from storing import counted, using

from defenses.store import EMPTIES, Charge, Counter, Level, open_store
from defenses.store.redis import RedisStore
from wire import BadInput, Refused


async def test_a_store_that_is_away_refuses_for_a_while(tmp_path):
    async def script():
        store = RedisStore(f"unix://{tmp_path / 'nobody.socket'}")
        works = (store.charge(counted()), store.levels("a"), store.append("l", [b""]), store.read("l"))
        for work in works:
            with pytest.raises(Refused, match="unavailable") as caught:
                await work
            assert (caught.value.status, caught.value.retry_after) == (503, 1)
        await store.close()

    await script()


class Lossy:
    """A script of Redis whose replies are lost, after it was run or before."""

    def __init__(self, script, losses):
        self.script, self.losses = script, losses

    async def __call__(self, **call):
        import redis

        loss = self.losses.pop(0) if self.losses else None
        if loss == "before":
            raise redis.ConnectionError("lost")
        reply = await self.script(**call)
        if loss == "after":
            raise redis.ConnectionError("lost")
        return reply


@pytest.mark.parametrize(
    ("losses", "refused"),
    [
        *[(["before"], 0), (["after"], 0), (["after", "after"], 0), (["before", "after"], 0)],
        *[(["after"] * 3, 1), (["before"] * 3, 1), (["before", "after", "before"], 1)],
    ],
)
def test_a_lost_reply_neither_loses_nor_doubles_a_charge(own_redis, losses, refused):
    own_redis.flushall()

    async def script(store):
        await store.charge(counted())
        store._trip_script = Lossy(store._trip_script, list(losses))
        results = await asyncio.gather(store.charge(counted(10)), store.refund(counted(1)), return_exceptions=True)
        after = await store.charge(counted(100))
        return sum(isinstance(r, Refused) for r in results), after.kind, await store.levels("a")

    assert using(f"unix://{own_redis.socket_file}", script) == (
        refused,
        "charged",
        {"n": Level(100 if refused else 110, 0)},
    )


def test_what_costs_nothing_is_refunded_too(store_url):
    async def script(store):
        charge = Charge("a", (Counter("n", 3), Counter("money", 0)))
        await store.charge(charge)
        await store.refund(charge)
        return (await store.charge(charge)).kind, await store.levels("a")

    assert using(store_url, script) == ("charged", {"n": Level(3, 0), "money": Level(0, 0)})


def test_a_refund_is_of_what_was_charged(store_url):
    """The price changed between two attempts under one idempotency_key, which both fail."""

    async def script(store):
        for first, second in ((100, 900), (900, 100)):
            charges = [
                Charge("a", (Counter("n", 1), Counter("money", price)), 0.0, "r") for price in (first, second)
            ]
            for charge in charges:
                await store.charge(charge)
            for charge in charges:
                await store.refund(charge)
        return await store.levels("a")

    assert using(store_url, script) == {"n": Level(0, 0), "money": Level(0, 0)}


def left_open(found, account="a"):
    return {entry.counter: entry.amount for entry in found if entry.account == account}


KILLED = """
import asyncio, os, signal, sys
from defenses.store import EMPTIES, Charge, Counter, open_store

async def work():
    store = open_store(sys.argv[1])
    bill = Counter("rows", 3), Counter("money", 7), Counter("free", 0)
    limits = Counter("bucket", 3, 99, 1.0, 5.0, True), Counter("day", 3, 99, EMPTIES, 8)
    charges = [Charge("a", (*bill, *limits)), Charge("a", bill), Charge("a", bill, 0.0, "id")]
    for charge in (*charges, *charges[:2], Charge("b", bill)):
        await store.charge(charge)
    store.answered(charges[0])
    await store.refund(charges[1])
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(work())
"""


def test_what_a_worker_that_is_gone_left_open_is_seen_and_refunded(store_url):
    killed = subprocess.run([sys.executable, "-c", KILLED, store_url], cwd=Path(__file__).parents[3], check=False)
    assert killed.returncode == -signal.SIGKILL

    async def script(store):
        await store.charge(Charge("a", (Counter("rows", 10),)))  # this worker is alive
        seen = left_open(await store.open_charges())
        none = await store.reconcile(60.0)
        await asyncio.sleep(3)
        await store.charge(Charge("c", (Counter("day", 50, 99, EMPTIES, 9),)))
        gone = await store.reconcile(2.5)
        again = await store.reconcile(2.5)
        levels = {name: level.level for name, level in (await store.levels("a")).items()}
        return seen, none, left_open(gone), left_open(gone, "b"), again, levels

    seen, none, of_a, of_b, again, levels = using(store_url, script)
    assert none == again == []
    assert of_a == {"rows": 6, "money": 14, "day": 3} and of_b == {"rows": 3, "money": 7}
    assert levels == {"rows": 10 + 3 + 3, "money": 7 + 7, "free": 0, "bucket": 6, "day": 3}
    assert set(seen) == {"rows", "money", "day"}


def test_an_answered_charge_is_not_open_a_moment_later(store_url):
    async def script(store):
        charge = counted(4)
        await store.charge(charge)
        before = left_open(await store.open_charges())
        store.answered(charge)
        for _ in range(200):
            if not (after := await store.open_charges()):
                break
            await asyncio.sleep(0.05)
        await store.refund(charge)  # too late: nothing happens
        return before, after, await store.levels("a")

    assert using(store_url, script) == ({"n": 4}, [], {"n": Level(4, 0)})


def test_a_charge_that_was_reconciled_is_not_refunded_again(store_url):
    async def script(store):
        slow = counted(4)
        await store.charge(counted(10, idempotency_key="r"))
        await store.charge(slow)
        other = open_store(store_url)
        refunded = left_open(await other.reconcile(0.0))
        await other.close()
        await store.refund(slow)
        store.answered(slow)
        await store.charge(counted(1))
        return refunded, left_open(await store.open_charges()), await store.levels("a")

    assert using(store_url, script) == ({"n": 4}, {"n": 1}, {"n": Level(11, 0)})


def test_a_charge_whose_asker_has_gone_is_undone(store_url):
    async def script(store):
        await store.charge(counted())
        gone = 0
        for turns in range(4):
            asking = asyncio.ensure_future(store.charge(counted(10)))
            for _ in range(turns):
                await asyncio.sleep(0)
            gone += asking.cancel()  # unless it was answered
        await asyncio.sleep(0.2)
        return gone, await store.levels("a")

    gone, levels = using(store_url, script)
    assert gone and levels == {"n": Level(1 + 10 * (4 - gone), 0)}


def test_a_locked_file_neither_hangs_nor_loses_a_refund(tmp_path):
    import sqlite3

    path = tmp_path / "s.sqlite"

    async def script(store):
        await store.charge(counted(5))
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        await store.refund(counted(5))
        with pytest.raises(Refused, match="locked"):
            await store.charge(counted(7))
        other.execute("ROLLBACK")
        other.close()
        await store.charge(counted(1))
        return await store.levels("a")

    assert using(f"sqlite:///{path}", script) == {"n": Level(1, 0)}


def test_a_script_that_fails_half_way_is_not_made_again(own_redis):
    import redis

    own_redis.flushall()

    async def script(store):
        await store.charge(counted(5))
        made = store._trip_script

        async def failing(**call):
            raise redis.ResponseError("value is no integer script: f_1, on @user_script:87.")

        store._trip_script = failing
        await store.refund(counted(5))
        store._trip_script = made
        return (await store.charge(counted(1))).kind, await store.levels("a")

    assert using(f"unix://{own_redis.socket_file}", script) == ("charged", {"n": Level(6, 0)})


def test_debts_are_paid_when_nobody_asks(own_redis):
    own_redis.flushall()

    async def script(store):
        await store.charge(counted())
        store._trip_script = Lossy(store._trip_script, ["after"] * 3)
        with pytest.raises(Refused):
            await store.charge(counted(10))
        await asyncio.sleep(1.5)
        return await store.levels("a")

    assert using(f"unix://{own_redis.socket_file}", script) == {"n": Level(1, 0)}


def test_a_trip_that_comes_too_late_is_not_made(own_redis):
    own_redis.flushall()

    async def script(store):
        await store.charge(counted())
        made = store._trip_script
        late = []

        async def stuck(**call):
            import redis

            late.append(call)
            raise redis.TimeoutError("stuck")

        store._trip_script = stuck
        with pytest.raises(Refused):
            await store.charge(counted(10))
        store._trip_script = made
        await store.charge(counted(100))
        await made(**late[0])
        return await store.levels("a")

    assert using(f"unix://{own_redis.socket_file}", script) == {"n": Level(101, 0)}


def test_a_broken_file_or_url_is_said(tmp_path):
    import sqlite3

    (tmp_path / "broken.sqlite").write_bytes(b"not a database, but long enough to look at" * 50)
    with pytest.raises(BadInput, match="not a database"):
        open_store(f"sqlite:///{tmp_path / 'broken.sqlite'}")
    with sqlite3.connect(tmp_path / "other.sqlite") as db:
        db.execute("CREATE TABLE documents (key)")
    db.close()
    with pytest.raises(BadInput, match="layout has version 0"):
        open_store(f"sqlite:///{tmp_path / 'other.sqlite'}")
    with pytest.raises(BadInput, match="unable to open database file; expected a folder that can be written"):
        open_store(f"sqlite:///{tmp_path}")  # as in a folder that is read-only
    with pytest.raises(BadInput, match="expected sqlite"):
        open_store("mysql://there")
