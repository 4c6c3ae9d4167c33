import asyncio
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from defenses.store import EMPTIES, Charge, Counter, Level, VersionConflict, open_store
from defenses.store.counters import RECEIPT_SECONDS, SKEW_SECONDS
from defenses.store.redis import RedisStore
from wire import BadInput, Refused


def using(url, script):
    """Runs a script on a store, in an event loop of its own."""

    async def play():
        store = open_store(url)
        try:
            return await script(store)
        finally:
            await store.close()

    return asyncio.run(play())


def counted(amount=1, account="a", **fields):
    return Charge(account, (Counter("n", amount),), **fields)


def test_levels_outlive_the_connection(store_url):
    assert using(store_url, lambda store: store.charge(counted(2))) == ("charged", -1, 0, ())
    using(store_url, lambda store: store.charge(counted(3)))
    assert using(store_url, lambda store: store.levels("a")) == {"n": Level(5, 0)}
    assert using(store_url, lambda store: store.levels("b")) == {}


def test_all_meters_rise_or_none(store_url):
    both = Charge("a", (Counter("n", 6), Counter("capped", 6, cap=10)))

    async def script(store):
        return [await store.charge(both), await store.charge(both), await store.levels("a")]

    first, second, levels = using(store_url, script)
    assert (first, second) == (("charged", -1, 0, (6,)), ("over", 1, 6, ()))
    assert levels == {"n": Level(6, 0), "capped": Level(6, 0)}


def test_a_meter_leaks_and_a_quota_empties(store_url):
    def bucket(amount, at):
        return Charge("a", (Counter("b", amount, cap=10, refill=2.0, as_of=at),))

    def quota(amount, period):
        return Charge("a", (Counter("q", amount, cap=10, refill=EMPTIES, as_of=period),))

    async def script(store):
        charges = (
            bucket(10, 100.0),
            bucket(1, 100.25),
            bucket(1, 100.5),
            bucket(2, 99.0),  # stamped out of order: nothing leaks, nothing comes back
            bucket(10, 200.0),
            quota(10, 7),
            quota(1, 7),
            quota(4, 8),
            quota(7, 7),  # of the period before: counted in the one that runs
            quota(6, 8),
        )
        return [await store.charge(charge) for charge in charges]

    verdicts = using(store_url, script)
    assert [v.kind for v in verdicts] == [
        *("charged", "over", "charged", "over", "charged"),
        *("charged", "over", "charged", "over", "charged"),
    ]
    assert (verdicts[1].level, verdicts[3].level, verdicts[8].level) == (9.5, 10, 4)


DAY = 86400.0


def test_after_a_clock_was_a_day_ahead_everything_goes_on(store_url):
    def bucket(amount, at):
        return Charge("a", (Counter("b", amount, 10, 2.0, at, True, at + SKEW_SECONDS),), at)

    def quota(amount, at):
        periods = at // DAY, (at + SKEW_SECONDS) // DAY
        return Charge("a", (Counter("q", amount, 10, EMPTIES, periods[0], latest=periods[1]),), at)

    async def script(store):
        charges = (
            bucket(10, 100.0),
            bucket(10, 100.0 + DAY),
            bucket(1, 100.0),  # what was taken there is taken
            bucket(2, 101.0),
            bucket(1, 101.0),
            quota(3, 100.0),
            quota(6, 100.0 + DAY),
            quota(5, 101.0),
            quota(4, 102.0),
            quota(10, 103.0 + DAY),  # when that day really comes
        )
        kinds = [(await store.charge(charge)).kind for charge in charges]
        await store.refund(bucket(1, 100.0 + DAY))  # begun there; it does not move the time
        return kinds, await store.levels("a")

    kinds, levels = using(store_url, script)
    assert kinds[:5] == ["charged", "charged", "over", "charged", "over"]
    assert kinds[5:] == ["charged", "charged", "over", "charged", "charged"]
    assert levels == {"b": Level(9, 101.0), "q": Level(10, 1)}


def test_stamps_that_are_out_of_order_gain_nothing(store_url):
    """Two workers whose requests overtake each other."""

    def both(amount, at):
        day = Counter("q", amount, 10, EMPTIES, at // DAY, latest=(at + SKEW_SECONDS) // DAY)
        return Charge("a", (Counter("b", amount, 10, 2.0, at, True, at + SKEW_SECONDS), day), at)

    async def script(store):
        kinds = [(await store.charge(both(10, DAY))).kind]
        kinds += [(await store.charge(both(1, DAY + step))).kind for step in (-1.9, 0.4, -1.5, 0.4) * 5]
        return kinds

    assert using(store_url, script) == ["charged"] + ["over"] * 20


def test_a_receipt_from_a_clock_that_was_ahead_is_kept_no_longer(store_url):
    async def script(store):
        times = (DAY, 0.0, RECEIPT_SECONDS - 1, RECEIPT_SECONDS)
        return [(await store.charge(counted(at=at, idempotency_key="r"))).kind for at in times]

    assert using(store_url, script) == ["charged", "known", "known", "charged"]


def test_all_who_share_a_store_have_its_time(store_url, own_redis, monkeypatch):
    async def script(store):
        with monkeypatch.context() as elsewhere:
            if "unix" in store_url:
                elsewhere.setattr("time.time", lambda: 1e9)  # on a machine whose clock is wrong
            other = open_store(store_url)
            await other.read("range")
            told = other.now()
        await store.charge(counted())
        await other.close()
        return store.now(), told

    for told in using(store_url, script):
        seconds, microseconds = own_redis.time()
        assert 0 <= seconds + microseconds / 1e6 - told < 5


def test_what_is_asked_at_once_is_charged_in_order(store_url):
    capped = Charge("a", (Counter("n", 4, cap=10),))

    async def script(store):
        return await asyncio.gather(*[store.charge(capped) for _ in range(4)])

    assert [v.kind for v in using(store_url, script)] == ["charged", "charged", "over", "over"]


def test_charges_of_many_clients_add_up(store_url):
    async def script(store):
        other = open_store(store_url)
        await asyncio.gather(*[s.charge(counted()) for s in (store, other) for _ in range(50)])
        await asyncio.gather(*[s.refund(counted(2)) for s in (store, other) for _ in range(10)])
        await other.close()
        return await store.levels("a")

    assert using(store_url, script) == {"n": Level(60, 0)}


def test_what_one_client_remembers_another_may_change(store_url):
    async def script(store):
        other = open_store(store_url)
        kinds = []
        for _ in range(2):  # each knows the level, and then it rises by the other's charges
            for client in (store, other):
                verdict = await client.charge(
                    Charge("a", (Counter("n", 1), Counter("capped", 1, cap=3)), log_position=0)
                )
                kinds.append(verdict.kind)
        await other.append("range", [b"x"])
        kinds.append((await store.charge(counted(log_position=0))).kind)
        await other.close()
        return kinds, await store.levels("a")

    kinds, levels = using(store_url, script)
    assert kinds == ["charged", "charged", "charged", "over", "behind"]
    assert levels["n"].level == levels["capped"].level == 3


def test_counters_are_exact_beyond_what_a_float_holds(store_url):
    async def script(store):
        for amount in (2**53, 1, 2**53, 1):
            await store.charge(counted(amount))
        return await store.levels("a")

    assert using(store_url, script)["n"].level == 2**54 + 2


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
