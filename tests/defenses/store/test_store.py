import asyncio

from storing import counted, using

from defenses.store import EMPTIES, Charge, Counter, Level, open_store
from defenses.store.counters import RECEIPT_SECONDS, SKEW_SECONDS


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
