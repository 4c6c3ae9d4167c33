import asyncio
import re

import numpy as np
import pytest

from defenses import Admission, Price, Quota, RateLimit
from defenses.admission.admission import ledgers
from defenses.reactions.alarm import StandingAlarm
from defenses.reactions.slow import Slowed
from defenses.store import Level, VersionConflict, open_store
from wire import BadInput, Card, Query, Refused
from wire.ratelimit import Limits, answer_headers

DAY = 86400.0


def query(rows, at=0.0, account="a", idempotency_key=None):
    return Query(account, np.zeros((rows, 2), np.float32), at, idempotency_key)


async def ledger(store, account="a", model="m"):
    return ledgers(await store.levels(account)).get(model)


@pytest.fixture
async def store(store_url):
    store = open_store(store_url)
    yield store
    await store.close()


def admitting(*limits, **fields):
    return Admission("m", limits, Price(per_row=7, per_request=1000), **fields)


async def charged(store, admission, query, *where):
    """Charges a query as the server does; returns the state of the limits."""
    bill = admission.bill(query, *where)
    return bill.limits((await store.charge_all([bill.charge]))[0])


class Kept:
    """A limit's level, kept as a store does."""

    def __init__(self, limit):
        self.limit, self.level = limit, None

    def take(self, rows, at):
        counter = self.limit.counter("m", rows, at)
        found = (self.level or Level(0, counter.as_of)).at(counter)
        if found.level + rows > counter.cap + 1e-6:
            raise self.limit.refusal(self.limit.policy, rows, found.level, at)
        self.level = Level(found.level + rows, found.as_of)
        return self.limit.remaining(self.level.level, at)

    def left(self, at):
        return self.limit.remaining(self.level.at(self.limit.counter("m", 0, at)).level, at).rows


def test_the_bucket_lets_its_burst_pass_and_fills_at_its_rate():
    bucket = Kept(RateLimit(rows_per_second=10, burst=20))
    bucket.take(20, 100.0)
    with pytest.raises(Refused, match="asked for 1 rows with 0 in the bucket") as caught:
        bucket.take(1, 100.0)
    assert (caught.value.status, caught.value.retry_after, caught.value.left) == (429, 1, 0)
    assert caught.value.policy == '"rows";q=20;w=2'
    bucket.take(5, 100.5)
    with pytest.raises(Refused):
        bucket.take(1, 100.5)
    assert bucket.left(100.6) == 1
    bucket.take(20, 200.0)  # no more than the burst, however long the wait
    assert bucket.left(200.0) == 0


def test_waiting_as_told_is_enough_and_no_less_is():
    bucket = Kept(RateLimit(rows_per_second=4, burst=8))
    bucket.take(8, 0.0)
    with pytest.raises(Refused) as caught:
        bucket.take(8, 0.0)
    assert caught.value.retry_after == 2
    with pytest.raises(Refused):
        bucket.take(8, 1.74)
    bucket.take(8, 2.0)


def test_a_clock_that_goes_back_gives_no_tokens():
    bucket = Kept(RateLimit(rows_per_second=10, burst=10))
    bucket.take(10, 50.0)
    with pytest.raises(Refused):
        bucket.take(1, 40.0)
    assert bucket.left(50.0) == 0


def test_a_quota_is_exact_and_starts_anew_each_period():
    quota = Kept(Quota(rows=10, per="day"))
    quota.take(7, DAY - 60)
    with pytest.raises(Refused, match="asked for 4 rows with 3 left of 10 this day") as caught:
        quota.take(4, DAY - 60)
    assert (caught.value.status, caught.value.retry_after, caught.value.left) == (429, 60, 3)
    assert caught.value.policy == '"day";q=10;w=86400'
    quota.take(3, DAY - 1)
    assert quota.left(DAY - 1) == 0
    quota.take(10, DAY)
    assert quota.left(DAY) == 0


def test_a_month_is_the_calendars():
    quota = Kept(Quota(rows=10, per="month"))
    january_31, march_1 = 30 * DAY, (31 + 28) * DAY  # of 1970
    quota.take(10, january_31)
    with pytest.raises(Refused, match="with 0 left of 10 this month") as caught:
        quota.take(1, january_31 + DAY - 30)
    assert (caught.value.retry_after, caught.value.policy) == (30, '"month";q=10')
    quota.take(10, january_31 + DAY)
    with pytest.raises(Refused) as caught:
        quota.take(1, march_1 - 5)
    assert (caught.value.retry_after, caught.value.policy) == (5, '"month";q=10')
    quota.take(10, march_1)


def test_what_is_left_and_when_more_comes_is_told():
    bucket = Kept(RateLimit(rows_per_second=0.1, burst=20))
    assert (bucket.limit.policy, bucket.take(5, 100.0)) == (("rows", 20, 200), (15, 10))
    assert bucket.take(15, 106.0) == (0, 4)
    assert bucket.take(1, 110.0) == (0, 10)
    quota = Kept(Quota(rows=10, per="hour"))
    assert (quota.limit.policy, quota.take(7, 3599.5)) == (("hour", 10, 3600), (3, 1))
    assert quota.take(1, 3600.0) == (9, 3600)
    assert Kept(Quota(rows=10, per="month")).take(4, 58 * DAY) == (6, DAY)  # February of 1970
    total = Kept(Quota(rows=10, per="total"))
    assert (total.limit.policy, total.take(4, 5.0)) == (("total", 10, None), (6, None))
    slowed = Kept(Slowed(since=100.0))
    assert (slowed.limit.policy, slowed.take(1, 100.5), slowed.take(1, 107.5)) == (
        ("slowed", 1, None),
        (0, 1),
        (0, 8),
    )


async def test_each_answer_tells_the_limits_that_hold(store):
    alarms = []
    limits, overall = [RateLimit(10, 20), Quota(100)], [Quota(1000), RateLimit(0.5, 200)]

    admission = admitting(*limits, overall=overall)
    heads = []
    for rows, at, idempotency_key in ((5, 0.0, "x"), (5, 0.0, "y"), (5, 0.5, "x"), (1, 9.0, None)):
        asked = query(rows, at, idempotency_key=idempotency_key)
        told = await charged(store, admission, asked, alarms)
        heads.append([(name.decode(), value.decode()) for name, value in answer_headers(told)])
        left = admission.left(await store.levels("a"), at)
        assert [int(rows) for rows in re.findall(r"r=(\d+)", heads[-1][1][1])][:4] == list(left.values())
        if len(heads) == 3:
            alarms.append(StandingAlarm("a", "m", "prada", 5.0, 3, 0.9, "slow"))
    with pytest.raises(Refused) as caught:
        await charged(store, admission, query(1, 9.5), alarms)
    (first, second, retried, slowed), policy = heads, caught.value.policy
    policies = '"all-day";q=1000;w=86400, "all-rows";q=200;w=400, "rows";q=20;w=2, "day";q=100;w=86400'
    assert first == [
        ("ratelimit-policy", policies),
        ("ratelimit", '"all-day";r=995;t=86400, "all-rows";r=195;t=2, "rows";r=15;t=1, "day";r=95;t=86400'),
    ]
    assert second[1][1] == '"all-day";r=990;t=86400, "all-rows";r=190;t=2, "rows";r=10;t=1, "day";r=90;t=86400'
    assert retried[1][1] == '"all-day";r=990;t=86400, "all-rows";r=185;t=2, "rows";r=10;t=1, "day";r=90;t=86400'
    assert slowed == [
        ("ratelimit-policy", f'{policies}, "slowed";q=1'),
        (
            "ratelimit",
            '"all-day";r=989;t=86391, "all-rows";r=188;t=1, "rows";r=19;t=1, "day";r=89;t=86391, "slowed";r=0;t=4',
        ),
    ]
    assert policy == '"slowed";q=1'


async def test_without_limits_none_are_told(store):
    assert await charged(store, admitting(), query(3)) == Limits()


@pytest.mark.parametrize("limit", [RateLimit(2, 10), Quota(10, "minute"), Quota(10, "month")])
async def test_after_a_clock_jumped_ahead_and_back_the_wait_is_as_told(store, limit):
    admission = admitting(limit)
    noon = 1.7e9
    for at in (noon, noon + 40 * DAY, noon + 1):
        with pytest.raises(Refused) as caught:
            for _ in range(2):
                await charged(store, admission, query(10, at))
    wait = caught.value.retry_after
    assert wait <= 31 * DAY
    assert admission.left(await store.levels("a"), noon + 1) == {f"m/{limit.name}": 0}
    await charged(store, admission, query(10, noon + 1 + wait))


async def test_quotas_of_two_periods_both_hold(store):
    admission = admitting(Quota(10, "minute"), Quota(20, "day"))
    taken = 0
    for at in range(0, 600, 30):
        try:
            await charged(store, admission, query(5, float(at)))
        except Refused:
            continue
        taken += 5
    assert taken == 20


def test_a_total_quota_is_refused_for_good():
    quota = Kept(Quota(rows=10, per="total"))
    quota.take(10, 0.0)
    with pytest.raises(Refused, match="0 left of 10 in all") as caught:
        quota.take(1, 1000 * DAY)
    assert (caught.value.status, caught.value.retry_after) == (403, None)


@pytest.mark.parametrize("limit", [Quota(rows=10), RateLimit(1, 10)])
def test_a_limit_that_was_lowered_has_nothing_left(limit):
    assert limit.remaining(25, 0.0).rows == 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: RateLimit(0, 10),
        lambda: RateLimit(10, 0),
        lambda: Quota(0),
        lambda: Quota(5, "week"),
        lambda: Quota(10**15),  # 16 digits, which a header may not have
        lambda: RateLimit(1, 10**15),
        lambda: RateLimit(5e-324, 10),  # infinitely many seconds
        lambda: RateLimit(1e-14, 10),
        lambda: Admission("m", [Quota(5), Quota(6)], Price()),
    ],
)
def test_limits_that_make_no_sense_are_refused(make):
    with pytest.raises(BadInput):
        make()


def test_a_burst_must_let_the_largest_request_pass():
    card = Card("m", (2,), 3, max_rows=256)
    assert RateLimit(1, 256).disclose(card) == card
    with pytest.raises(BadInput, match="a burst of 255 rows never admits a full request of 256 rows"):
        RateLimit(1, 255).disclose(card)


async def test_a_limit_over_all_models_is_shared(store):
    admission = admitting(overall=[Quota(10)])
    other = Admission("n", [Quota(100)], admission.price, [Quota(10)])
    await charged(store, admission, query(6))
    with pytest.raises(Refused, match="4 left of 10"):
        await charged(store, other, query(5))
    await charged(store, other, query(4))
    assert other.left(await store.levels("a"), 0.0) == {"*/quota/day": 0, "n/quota/day": 96}
    assert (await ledger(store))["rows"] == 6 and (await ledger(store, model="n"))["rows"] == 4


async def test_who_is_behind_the_control_log_is_not_answered(store):
    admission = admitting()
    await store.append("range", [b"{}"])
    with pytest.raises(VersionConflict):
        await charged(store, admission, query(3), (), 0)
    assert await ledger(store) is None


async def test_answered_rows_are_billed_exactly(store):
    admission = admitting()
    for rows in (1, 64, 13):
        await charged(store, admission, query(rows))
    await charged(store, admission, query(5, account="b"))
    assert await ledger(store) == {"rows": 78, "requests": 3, "micro_cents": 78 * 7 + 3 * 1000}
    assert await ledger(store, "b") == {"rows": 5, "requests": 1, "micro_cents": 1035}


async def test_limits_and_ledger_change_together_or_not_at_all(store):
    limits = RateLimit(1, 100), Quota(rows=10)
    admission = admitting(*limits)
    await charged(store, admission, query(8))
    with pytest.raises(Refused, match="quota"):
        await charged(store, admission, query(3))
    assert admission.left(await store.levels("a"), 0.0) == {"m/rate_limit": 92, "m/quota/day": 2}
    assert (await ledger(store))["rows"] == 8


async def test_what_fails_is_not_billed(store):
    admission = admitting(Quota(rows=10))
    await charged(store, admission, query(4))
    failed = query(6, idempotency_key="r")
    await charged(store, admission, failed)
    await store.refund(admission.bill(failed).charge)
    levels = await store.levels("a")
    assert ledgers(levels)["m"]["rows"] == 4 and admission.left(levels, 0.0) == {"m/quota/day": 6}
    await charged(store, admission, query(6, idempotency_key="r"))
    assert await ledger(store) == {"rows": 10, "requests": 2, "micro_cents": 2070}


async def test_a_retry_is_billed_once_within_ten_minutes_and_slowed_each_time(store):
    limits = [RateLimit(1, 20), Quota(100)]
    admission = admitting(*limits)
    for at in (0.0, 1.0, 599.0):
        await charged(store, admission, query(5, at, idempotency_key="r"))
    await charged(store, admission, query(5, 599.0, idempotency_key="other"))
    await charged(store, admission, query(5, 599.0, account="b", idempotency_key="r"))
    with pytest.raises(Refused, match="rate limit"):
        for _ in range(3):
            await charged(store, admission, query(5, 599.0, idempotency_key="r"))
    assert (await ledger(store))["rows"] == 10
    assert (await ledger(store, "b"))["rows"] == 5
    await charged(store, admission, query(5, 700.0, idempotency_key="r"))
    assert (await ledger(store))["rows"] == 15


async def test_accounts_in_parallel_pay_for_every_row(store):
    admission = admitting()
    charges = [charged(store, admission, query(3, account=name)) for name in "ab" * 20]
    await asyncio.gather(*charges)
    assert ((await ledger(store))["rows"], (await ledger(store, "b"))["rows"]) == (60, 60)
