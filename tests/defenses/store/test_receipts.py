"""Receipts and refunds"""

import asyncio
import random

import pytest
from storing import counted, using

from defenses.store import EMPTIES, Charge, Counter, Level, VersionConflict
from defenses.store.counters import RECEIPT_SECONDS, SKEW_SECONDS


def test_a_receipt_is_charged_once_while_it_is_kept(store_url):
    def charge(at):
        return Charge(
            "a", (Counter("n", 1), Counter("rate", 1, cap=9, refill=0.0, as_of=0.0, retried=True)), at, "r"
        )

    async def script(store):
        kinds = [(await store.charge(charge(at))).kind for at in (0.0, 1.0, RECEIPT_SECONDS - 1, RECEIPT_SECONDS)]
        other = await store.charge(counted(account="b", idempotency_key="r"))
        return kinds, other.kind, await store.levels("a")

    kinds, other, levels = using(store_url, script)
    assert kinds == ["charged", "known", "known", "charged"] and other == "charged"
    assert {name: level.level for name, level in levels.items()} == {"n": 2, "rate": 4}


def test_levels_are_told_to_the_last_digit_and_to_who_retries_as_they_stand(store_url):
    def charge(at, idempotency_key, most):
        return Charge(
            "a",
            (
                Counter("bucket", 2, 9, 0.1, at, True),
                Counter("money", 7),
                Counter("day", 3, 9, EMPTIES, at // 10),
                Counter("all", 2**52 - 1, most),
            ),
            at,
            idempotency_key,
        )

    async def script(store):
        steps = (1.0, "x", 2**53), (2.0, "y", 2**53), (3.5, "x", 1), (10.0, "x", 1)
        verdicts = [await store.charge(charge(*step)) for step in steps]
        return [(verdict.kind, verdict.levels) for verdict in verdicts]

    first, second, third, last = using(store_url, script)
    assert first == ("charged", (2, 3, 2**52 - 1))
    assert second == ("charged", (2 - 0.1 * 1.0 + 2, 6, 2**53 - 2))
    assert third == (
        "known",
        (second[1][0] - 0.1 * 1.5 + 2, 6, 2**53 - 2),
    )  # a cap that was lowered stops no retry
    assert last == ("known", (third[1][0] - 0.1 * 6.5 + 2, 0, 2**53 - 2))  # another day


def test_a_refund_strikes_the_charge_and_its_receipt(store_url):
    charge = Charge("a", (Counter("n", 5), Counter("b", 5, cap=5, refill=1.0, as_of=10.0)), 10.0, "r")

    async def script(store):
        await store.charge(charge)
        await store.refund(charge)
        struck = await store.levels("a")
        again = await store.charge(charge)
        await store.refund(charge)
        await store.refund(charge)  # of nothing
        return struck, again.kind, await store.levels("a")

    struck, again, levels = using(store_url, script)
    assert again == "charged"
    assert {name: level.level for name, level in struck.items()} == {"n": 0, "b": 0}
    assert levels["n"].level == 0


def test_only_the_last_failed_attempt_strikes_the_charge(store_url):
    async def script(store):
        charge = counted(idempotency_key="r")
        kinds = [(await store.charge(charge)).kind for _ in range(3)]
        left = []
        for _ in range(3):
            await store.refund(charge)
            left.append((await store.levels("a"))["n"].level)
        return kinds, left

    assert using(store_url, script) == (["charged", "known", "known"], [1, 1, 0])


def test_a_refund_of_a_period_that_is_over_gives_nothing(store_url):
    def quota(period):
        return Charge("a", (Counter("q", 3, cap=10, refill=EMPTIES, as_of=period),))

    async def script(store):
        await store.charge(quota(1))
        await store.charge(quota(2))
        await store.refund(quota(1))
        return (await store.levels("a"))["q"]

    assert using(store_url, script) == Level(3, 2)


def test_who_is_behind_the_control_log_is_told_and_not_charged(store_url):
    async def script(store):
        fresh = await store.charge(counted(log_position=0))
        await store.append("range", [b"x"])
        behind = await store.charge(counted(log_position=0))
        return fresh.kind, behind.kind, (await store.charge(counted(log_position=1))).kind, await store.levels("a")

    assert using(store_url, script) == ("charged", "behind", "charged", {"n": Level(2, 0)})


def test_a_log_is_appended_to_and_read_on(store_url):
    async def script(store):
        assert await store.append("l", [b"a", b"b"]) == 2
        assert await store.append("l", [b"c"], expected=2) == 3
        with pytest.raises(VersionConflict, match=r"not.* 2"):
            await store.append("l", [b"d"], expected=2)
        return await store.read("l"), await store.read("l", 2), await store.read("other")

    everything, tail, empty = using(store_url, script)
    assert everything == (0, None, [b"a", b"b", b"c"]) and everything.end == 3
    assert tail == (2, None, [b"c"]) and empty == (0, None, [])


def test_a_compacted_log_keeps_its_positions(store_url):
    async def script(store):
        await store.append("l", [b"a", b"b", b"c"])
        await store.compact("l", 2, b"a+b")
        await store.compact("l", 1, b"late")
        assert await store.append("l", [b"d"], expected=3) == 4
        whole, tail = await store.read("l"), await store.read("l", 3)
        await store.compact("l", 4, b"all")
        assert await store.append("l", [b"e"], expected=4) == 5
        await store.append("range", [b"x"])
        await store.compact("range", 1, b"")
        return whole, tail, await store.read("l"), (await store.charge(counted(log_position=0))).kind

    whole, tail, later, kind = using(store_url, script)
    assert whole == (2, b"a+b", [b"c", b"d"]) and tail == (3, None, [b"d"])
    assert later == (4, b"all", [b"e"]) and kind == "behind"


def test_both_stores_come_to_the_same(tmp_path, own_redis):
    """Random charges and refunds of two accounts, alone and together."""
    own_redis.flushall()
    rng = random.Random(5)

    def drawn(at):
        counters = (
            Counter("bucket", rng.randint(1, 6), 20, 1.7, at, True, at + SKEW_SECONDS),
            Counter("day", rng.randint(1, 9), 60, EMPTIES, at // 30, latest=(at + SKEW_SECONDS) // 30),
            Counter("money", rng.randint(0, 10**12)),
            Counter("all", 1, 10**6),
        )
        idempotency_key = rng.choice([None, "x", "y", "z"])
        return Charge(rng.choice("ab"), counters, at, idempotency_key), rng.random() < 0.75

    def clock(t):
        """Runs, but for the hundred seconds in which it is ahead."""
        return t + rng.random() + (5000 if 100 <= t < 200 else 0)

    steps = [[drawn(clock(t)) for _ in range(rng.randint(1, 5))] for t in range(300)]

    async def script(store):
        outcomes = []
        for step in steps:
            came = await asyncio.gather(*[store.charge(c) if forward else store.refund(c) for c, forward in step])
            outcomes += [v and (v.kind, v.levels) for v in came]
            last = {c.account: (c, v) for (c, _), v in zip(step, came, strict=True) if v and v.levels}
            for charge, verdict in last.values():
                levels = await store.levels(charge.account)
                capped = [counter for counter in charge.counters if counter.cap is not None]
                assert verdict.levels == tuple(levels[counter.name].at(counter).level for counter in capped)
        return outcomes, await store.levels("a"), await store.levels("b")

    def on_redis(items):
        # refunds of one moment are made before its charges there
        return sorted(items, key=lambda item: item[1])

    steps = [on_redis(step) for step in steps]
    one = using(f"sqlite:///{tmp_path / 'one.sqlite'}", script)
    two = using(f"unix://{own_redis.socket_file}", script)
    assert one == two
    assert {"charged", "known", "over"} <= {verdict[0] for verdict in one[0] if verdict}


def test_old_receipts_go(tmp_path):
    import sqlite3

    async def script(store):
        await store.charge(counted(idempotency_key="old", at=0.0))
        await store.charge(counted(idempotency_key="new", at=RECEIPT_SECONDS + 1))

    using(f"sqlite:///{tmp_path / 's.sqlite'}", script)
    with sqlite3.connect(tmp_path / "s.sqlite") as db:
        assert db.execute("SELECT receipt FROM receipts").fetchall() == [("new",)]
    db.close()
