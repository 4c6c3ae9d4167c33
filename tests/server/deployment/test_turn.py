"""What arrives in one turn of the loop is charged, computed and changed together, and fails apart."""

import asyncio

import numpy as np
import pytest
from sites import site

from defenses import (
    Admission,
    GaussianNoise,
    Price,
    Quota,
    Reaction,
    Rounding,
    RowWise,
    TopK,
    compose_row_wise,
)
from defenses.admission.admission import ledgers
from defenses.reactions.alarm import StandingAlarm
from defenses.store import open_store
from server.deployment.stack import Deployed
from server.deployment.turn import Asking, Reply, Turns
from wire import Answer, Card, Malformed, Query, Refused

CARD = Card("m", (4,), 5, max_rows=1024)
WEIGHTS = np.random.default_rng(1).random((4, 5), np.float32)


class Victim:
    """Answers rows, and notes how many came together; rows that begin with 9 make it fail."""

    def __init__(self):
        self.passes, self.held = [], None

    async def __call__(self, query):
        return await self.answer(query.x)

    async def answer(self, x):
        self.passes.append(len(x))
        if self.held is not None:
            await self.held.wait()
        if (x[:, 0] == 9).any():
            raise RuntimeError("nine")
        exp = np.exp(np.einsum("nd,dk->nk", x, WEIGHTS))
        probs = (exp / exp.sum(axis=1, keepdims=True)).astype(np.float32)
        return Answer(probs.argmax(axis=1), probs)


class Counting:
    """A store that notes how many charges came together."""

    def __init__(self, store):
        self.store, self.trips = store, []

    async def charge_all(self, charges):
        self.trips.append(len(charges))
        return await self.store.charge_all(charges)

    def __getattr__(self, name):
        return getattr(self.store, name)


def deployed(victim, layers=(), alone=False, pass_rows=64, quota=10_000):
    reaction = Reaction(5, b"key", victim, layers)
    together = None if alone else compose_row_wise(layers, victim.answer)
    return Deployed(
        CARD, Admission("m", [Quota(quota)], Price(3, 100)), reaction, together, pass_rows, "a test", ()
    )


def play(script, path=":memory:"):
    async def run():
        store = Counting(open_store(f"sqlite:///{path}"))
        try:
            return await asyncio.wait_for(script(store, Turns(store, lambda *_: (), 1000)), 30)
        finally:
            await store.close()

    return asyncio.run(run())


async def asked(turns, model, *xs, account="a", alarms=(), leave=(), breaks=(), checked=True):
    """Asks in one turn; returns the outcomes. Those who leave say so when told; those who break raise then."""
    loop = asyncio.get_running_loop()
    futures = [loop.create_future() for _ in xs]
    for number, (x, future) in enumerate(zip(xs, futures, strict=True)):

        def done(outcome, future=future, stays=number not in leave, breaks=number in breaks):
            future.set_result(outcome)
            if breaks:
                raise RuntimeError("an answer that cannot be written")
            return stays

        turns.add(Asking(Query(account, x, 1e6), model, alarms, 0, done, checked=checked))
    return await asyncio.gather(*futures)


async def bill(store, account="a"):
    return ledgers(await store.levels(account)).get("m", {"rows": 0, "requests": 0, "micro_cents": 0})


def rows(*sizes):
    rng = np.random.default_rng(0)
    return [rng.random((n, 4), np.float32) for n in sizes]


def row_wise():
    return [defense.bind(site()) for defense in (TopK(3), Rounding(3), GaussianNoise(0.05))]


def same(a, b):
    return (
        a.labels.tobytes() == b.labels.tobytes() and np.ascontiguousarray(a.probs).tobytes() == b.probs.tobytes()
    )


def test_a_turn_is_one_charge_and_one_pass_and_tells_each_what_it_would_be_told_alone():
    async def script(store, turns):
        victim, xs = Victim(), rows(1, 3, 1, 20, 2)
        model = deployed(victim, row_wise())
        together = await asked(turns, model, *xs)
        trips, passes = list(store.trips), list(victim.passes)
        alone = [(await asked(turns, model, x))[0] for x in xs]
        return together, alone, trips, passes, await bill(store)

    together, alone, trips, passes, billed = play(script)
    assert trips == [5] and passes == [27]
    assert all(same(a.answer, b.answer) for a, b in zip(together, alone, strict=True))
    assert billed == {"rows": 54, "requests": 10, "micro_cents": 54 * 3 + 1000}
    left = [outcome.limits.remaining[0].rows for outcome in together]
    assert left == [9_999, 9_996, 9_995, 9_975, 9_973]


def test_values_are_checked_together_and_who_sends_wrong_ones_is_told_alone_and_not_billed():
    async def script(store, turns):
        victim, xs = Victim(), rows(1, 2, 1, 3)
        xs[1][1, 2], xs[3][0, 0] = 1.5, np.nan
        outcomes = await asked(turns, deployed(victim), *xs, checked=False)
        return outcomes, victim.passes, await bill(store)

    (first, wrong, second, odd), passes, billed = play(script)
    assert isinstance(first, Reply) and isinstance(second, Reply)
    assert isinstance(wrong, Malformed) and "1.5" in str(wrong)
    assert isinstance(odd, Malformed) and "row 0 holds nan" in str(odd)
    assert passes == [2]
    assert billed == {"rows": 2, "requests": 2, "micro_cents": 2 * 3 + 200}


def test_a_turn_is_divided_into_passes_and_who_fills_one_alone_does_not_wait_for_others():
    async def script(store, turns):
        victim = Victim()
        outcomes = await asked(turns, deployed(victim), *rows(40, 40, 1, 100, 3))
        return [len(outcome.answer) for outcome in outcomes], sorted(victim.passes)

    assert play(script) == ([40, 40, 1, 100, 3], [3, 40, 41, 100])


def test_a_layer_that_fails_for_one_fails_for_no_other():
    def picky(x, answer):
        if (x[:, 1] == 7).any():
            raise RuntimeError("seven")
        return answer

    async def script(store, turns):
        victim, xs = Victim(), rows(2, 3, 4, 5)
        xs[1][0, 1], xs[2][2, 0] = 7, 9
        outcomes = await asked(turns, deployed(victim, [RowWise(picky)]), *xs)
        return outcomes, await bill(store)

    (a, b, c, d), billed = play(script)
    assert str(b) == "seven" and str(c) == "nine" and len(a.answer) == 2 and len(d.answer) == 5
    assert billed == {"rows": 7, "requests": 2, "micro_cents": 7 * 3 + 200}


def test_a_quota_admits_in_the_order_of_arrival_and_no_row_more():
    async def script(store, turns):
        outcomes = await asked(turns, deployed(Victim(), quota=10), *rows(4, 4, 4, 2))
        return [isinstance(outcome, Refused) for outcome in outcomes], await bill(store)

    refused, billed = play(script)
    assert refused == [False, False, True, False] and billed["rows"] == 10


@pytest.mark.parametrize(
    ("alone", "alarms"), [(True, ()), (False, (StandingAlarm("a", "m", "p", 0, 0, 0, "coarsen", 1),))]
)
def test_who_must_be_seen_alone_shares_nothing_but_the_charge(alone, alarms):
    async def script(store, turns):
        victim = Victim()
        outcomes = await asked(turns, deployed(victim, alone=alone), *rows(1, 2, 3), alarms=alarms)
        return store.trips, victim.passes, [len(outcome.answer) for outcome in outcomes]

    assert play(script) == ([3], [1, 2, 3], [1, 2, 3])


def test_who_left_is_refunded():
    async def script(store, turns):
        await asked(turns, deployed(Victim(), row_wise()), *rows(1, 2, 3), leave={1})
        return await bill(store)

    assert play(script)["rows"] == 4


@pytest.mark.parametrize("alone", [False, True])
def test_an_outcome_that_cannot_be_handed_over_holds_up_no_other(alone, caplog):
    async def script(store, turns):
        outcomes = await asked(turns, deployed(Victim(), alone=alone, quota=10), *rows(2, 9, 4, 1), breaks={0, 1})
        return outcomes, await bill(store)

    (_, refused, c, d), billed = play(script)
    assert isinstance(refused, Refused) and len(c.answer) == 4 and len(d.answer) == 1
    assert billed["rows"] == 7 and len(caplog.records) == 2


@pytest.mark.parametrize("sizes", [(2,), (2, 3), (60, 60)])
def test_who_is_not_answered_at_the_end_is_told_so_and_refunded(sizes):
    async def script(store, turns):
        victim = Victim()
        victim.held = asyncio.Event()
        asking = asyncio.create_task(asked(turns, deployed(victim), *rows(*sizes)))
        while sum(victim.passes) < sum(sizes):
            await asyncio.sleep(0.001)
        charged = await bill(store)
        await turns.close()
        return charged["rows"], await asking, await bill(store)

    charged, outcomes, billed = play(script)
    assert charged == sum(sizes) and billed["rows"] == 0
    assert all(isinstance(outcome, Refused) and outcome.status == 503 for outcome in outcomes)


def test_a_store_that_is_away_refuses_the_turn_and_answers_the_next():
    async def script(store, turns):
        model, kept = deployed(Victim()), store.store

        class Away:
            async def charge_all(self, charges):
                raise Refused("the store is unavailable", status=503)

        store.store = Away()
        refused = await asked(turns, model, *rows(1, 2))
        store.store = kept
        return refused, await asked(turns, model, *rows(3))

    refused, (answered,) = play(script)
    assert [outcome.status for outcome in refused] == [503, 503] and len(answered.answer) == 3


def test_models_and_accounts_of_a_turn_do_not_mix():
    async def script(store, turns):
        one, other = Victim(), Victim()
        xs = rows(2, 3)
        first = asyncio.create_task(asked(turns, deployed(one), xs[0], account="a"))
        second = asyncio.create_task(asked(turns, deployed(other), xs[1], account="b"))
        await asyncio.gather(first, second)
        billed = [(await bill(store, account))["rows"] for account in "ab"]
        return store.trips, one.passes, other.passes, billed

    assert play(script) == ([2], [2], [3], [2, 3])
