"""Settlement: of a reservation, what was told stays, in every counter."""

import pytest

from defenses import Admission, Price, Quota, RateLimit
from defenses.admission.price import Usage
from defenses.admission.settlement import settle, settle_once
from defenses.store import open_store

ADMISSION = Admission("m", [RateLimit(10, 200), Quota(300)], Price(0, 1000, 3, 7))
NOW, RESERVED, TOLD = 1e9, Usage(20, 100), Usage(20, 30)


@pytest.fixture
async def store(tmp_path):
    store = open_store(f"sqlite:///{tmp_path / 'store.sqlite'}")
    yield store
    await store.close()


def costs(usage, at):
    return ADMISSION.of_tokens("a", usage, at).charge


async def levels(store):
    return {name: level for name, (level, _) in (await store.levels("a")).items()}


def expected(usage, requests=1):
    return {
        "m/rate_limit": sum(usage),
        "m/quota/day": sum(usage),
        "m/ledger/prompt_tokens": usage.prompt,
        "m/ledger/completion_tokens": usage.completion,
        "m/ledger/requests": requests,
        "m/ledger/micro_cents": 1000 * requests + 3 * usage.prompt + 7 * usage.completion,
    }


@pytest.mark.parametrize("told", [TOLD, RESERVED, Usage(20, 0)])
async def test_what_was_told_stays_and_nothing_is_open(store, told):
    await store.charge(costs(RESERVED, NOW))
    assert await levels(store) == expected(RESERVED)
    await settle(store, costs, RESERVED, told, NOW)
    assert await levels(store) == expected(told)
    await store.charge(costs(Usage(), NOW))  # another trip
    assert {entry.counter for entry in await store.open_charges()} <= {"m/ledger/requests", "m/ledger/micro_cents"}


async def test_of_what_was_not_told_nothing_stays(store):
    await store.charge(costs(RESERVED, NOW))
    await settle(store, costs, RESERVED, Usage(), NOW)
    assert set((await levels(store)).values()) == {0}
    assert await store.open_charges() == []


@pytest.mark.parametrize("passed", [0, 5, 60])
async def test_a_key_is_billed_once_whenever_it_is_told(store, passed):
    for _ in range(3):
        await store.charge(costs(RESERVED, NOW))
        await settle_once(store, costs, RESERVED, TOLD, NOW, NOW + passed, "key")
    found, right = await levels(store), expected(TOLD)
    assert found.pop("m/rate_limit") <= 3 * right.pop("m/rate_limit")  # each attempt takes from the bucket
    assert found == right
    assert await store.open_charges() == []


async def test_a_lost_worker_s_reservation_is_given_back(store):
    await store.charge(costs(RESERVED, NOW))
    await store.reconcile(0)
    found = await levels(store)
    assert found.pop("m/rate_limit") == 120 and set(found.values()) == {0}  # a bucket drains by itself
    await settle(store, costs, RESERVED, TOLD, NOW)  # it lives after all: what was given back is not taken twice
    assert min((await levels(store)).values()) >= 0
