import asyncio

import numpy as np
import pytest

from defenses import Admission, Price, Quota, RateLimit
from defenses.store import open_store
from wire import Answer, BadInput, Card, Query, Refused

DAY = 86400.0


async def victim(query):
    return Answer(np.zeros(len(query.x), np.int64))


async def broken(query):
    raise RuntimeError("the model failed")


def query(rows, at=0.0, account="a", receipt=None):
    return Query(account, np.zeros((rows, 2), np.float32), at, receipt)


def ledger(url, account="a", model="m"):
    async def read():
        store = open_store(url)
        document = await store.read(f"usage/{account}") or {"models": {}}
        await store.close()
        return document["models"].get(model, {}).get("ledger", {})

    return asyncio.run(read())


def play(url, script, *limits, price=None):
    async def run():
        store = open_store(url)
        try:
            return await script(Admission("m", limits, price or Price(per_row=7, per_request=1000), store))
        finally:
            await store.close()

    return asyncio.run(run())


def test_the_bucket_lets_its_burst_pass_and_fills_at_its_rate():
    limit, state = RateLimit(rows_per_second=10, burst=20), {}
    limit.take(state, 20, 100.0)
    with pytest.raises(Refused, match="asked for 1 rows with 0 in the bucket") as caught:
        limit.take(state, 1, 100.0)
    assert (caught.value.status, caught.value.retry_after, caught.value.left) == (429, 1, 0)
    assert caught.value.policy == '"rows";q=20;w=2'
    limit.take(state, 5, 100.5)
    with pytest.raises(Refused) as caught:
        limit.take(state, 1, 100.5)
    assert limit.left(state, 100.6) == 1
    limit.take(state, 20, 200.0)  # no more than the burst, however long the wait
    assert limit.left(state, 200.0) == 0


def test_waiting_as_told_is_enough_and_no_less_is():
    limit, state = RateLimit(rows_per_second=4, burst=8), {}
    limit.take(state, 8, 0.0)
    with pytest.raises(Refused) as caught:
        limit.take(state, 8, 0.0)
    assert caught.value.retry_after == 2
    with pytest.raises(Refused):
        limit.take(dict(state), 8, 1.74)
    limit.take(state, 8, 2.0)


def test_a_clock_that_goes_back_gives_no_tokens():
    limit, state = RateLimit(rows_per_second=10, burst=10), {}
    limit.take(state, 10, 50.0)
    with pytest.raises(Refused):
        limit.take(state, 1, 40.0)
    assert limit.left(state, 50.0) == 0


def test_a_quota_is_exact_and_starts_anew_each_period():
    limit, state = Quota(rows=10, per="day"), {}
    limit.take(state, 7, DAY - 60)
    with pytest.raises(Refused, match="asked for 4 rows with 3 left of 10 this day") as caught:
        limit.take(state, 4, DAY - 60)
    assert (caught.value.status, caught.value.retry_after, caught.value.left) == (429, 60, 3)
    limit.take(state, 3, DAY - 1)
    assert limit.left(state, DAY - 1) == 0
    limit.take(state, 10, DAY)
    assert limit.left(state, DAY) == 0


def test_quotas_of_two_periods_both_hold():
    state, minute, day = {}, Quota(10, "minute"), Quota(20, "day")
    taken = 0
    for at in range(0, 600, 30):
        try:
            for limit in (minute, day):
                limit.take(state.setdefault(limit.name, {}), 5, float(at))
        except Refused:
            continue
        taken += 5
    assert taken == 20


def test_a_total_quota_is_refused_for_good():
    limit, state = Quota(rows=10, per="total"), {}
    limit.take(state, 10, 0.0)
    with pytest.raises(Refused, match="0 left of 10 in all") as caught:
        limit.take(state, 1, 1000 * DAY)
    assert (caught.value.status, caught.value.retry_after) == (403, None)


def test_what_was_not_answered_is_given_back_to_its_own_period():
    limit, state = Quota(rows=10, per="day"), {}
    limit.take(state, 4, DAY - 1)
    limit.take(state, 5, DAY + 1)
    limit.give_back(state, 4, DAY - 1)
    assert limit.left(state, DAY + 1) == 5
    limit.give_back(state, 5, DAY + 1)
    assert limit.left(state, DAY + 1) == 10


@pytest.mark.parametrize(
    "make",
    [
        lambda: RateLimit(0, 10),
        lambda: RateLimit(10, 0),
        lambda: Quota(0),
        lambda: Quota(5, "week"),
    ],
)
def test_limits_that_make_no_sense_are_refused(make):
    with pytest.raises(BadInput):
        make()


def test_the_burst_bounds_the_rows_of_a_request():
    card = Card("m", (2,), 3, max_rows=256)
    assert RateLimit(1, 100).disclose(card).max_rows == 100
    assert RateLimit(1, 1000).disclose(card).max_rows == 256


def test_answered_rows_are_billed_exactly(store_url):
    async def script(admission):
        for rows in (1, 64, 13):
            assert len(await admission(query(rows), victim)) == rows
        await admission(query(5, account="b"), victim)

    play(store_url, script)
    assert ledger(store_url) == {"rows": 78, "requests": 3, "micro_cents": 78 * 7 + 3 * 1000}
    assert ledger(store_url, "b") == {"rows": 5, "requests": 1, "micro_cents": 1035}


def test_limits_and_ledger_change_together_or_not_at_all(store_url):
    bucket, quota = RateLimit(1, 100), Quota(rows=10)

    async def script(admission):
        await admission(query(8), victim)
        with pytest.raises(Refused, match="quota"):
            await admission(query(3), victim)
        state = (await admission.store.read("usage/a"))["models"]["m"]
        return bucket.left(state["rate_limit"], 0.0), quota.left(state["quota/day"], 0.0), state["ledger"]["rows"]

    assert play(store_url, script, bucket, quota) == (92, 2, 8)


def test_what_fails_is_not_billed(store_url):
    quota = Quota(rows=10)

    async def script(admission):
        await admission(query(4), victim)
        with pytest.raises(RuntimeError):
            await admission(query(6, receipt="r"), broken)
        state = (await admission.store.read("usage/a"))["models"]["m"]
        assert (state["ledger"]["rows"], quota.left(state["quota/day"], 0.0)) == (4, 6)
        await admission(query(6, receipt="r"), victim)

    play(store_url, script, quota)
    assert ledger(store_url) == {"rows": 10, "requests": 2, "micro_cents": 2070}


def test_a_retry_is_billed_once_within_ten_minutes(store_url):
    now = 2e9  # far ahead, so that no store forgets the receipt on its own clock

    async def script(admission):
        for at in (now, now + 1, now + 599):
            assert len(await admission(query(5, at, receipt="r"), victim)) == 5
        await admission(query(5, now + 1, receipt="other"), victim)
        await admission(query(5, now + 1, account="b", receipt="r"), victim)

    play(store_url, script)
    assert ledger(store_url)["rows"] == 10
    assert ledger(store_url, "b")["rows"] == 5
    play(store_url, lambda admission: admission(query(5, now + 1300, receipt="r"), victim))
    assert ledger(store_url)["rows"] == 15


def test_accounts_in_parallel_pay_for_every_row(store_url):
    async def script(admission):
        answers = [admission(query(3, account=name), victim) for name in "ab" * 20]
        await asyncio.gather(*answers)

    play(store_url, script)
    assert (ledger(store_url)["rows"], ledger(store_url, "b")["rows"]) == (60, 60)
