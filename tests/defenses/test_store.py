import asyncio

import pytest

from defenses.store import RedisStore, open_store
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


def add(amount):
    def step(documents):
        document = documents.setdefault("a", {"n": 0})
        document["n"] += amount
        return document["n"]

    return step


def test_documents_outlive_the_connection(store_url):
    assert using(store_url, lambda store: store.transact(["a"], add(2))) == 2
    assert using(store_url, lambda store: store.transact(["a"], add(3))) == 5
    assert using(store_url, lambda store: store.read("a")) == {"n": 5}
    assert using(store_url, lambda store: store.read("b")) is None


def test_a_step_that_raises_changes_nothing(store_url):
    def step(documents):
        documents["a"] = {"n": 9}
        documents["b"] = {}
        raise Refused("no")

    async def script(store):
        await store.transact(["a"], add(1))
        with pytest.raises(Refused, match="no"):
            await store.transact(["a", "b"], step)
        return await store.find("")

    assert using(store_url, script) == {"a": {"n": 1}}


def test_documents_can_be_removed_and_found_by_prefix(store_url):
    def step(documents):
        documents["x/1"], documents["x/2"], documents["y/1"] = {"i": 1}, {"i": 2}, {"i": 3}

    async def script(store):
        await store.transact(["x/1", "x/2", "y/1"], step)
        await store.transact(["x/2"], lambda documents: documents.pop("x/2"))
        return await store.find("x/")

    assert using(store_url, script) == {"x/1": {"i": 1}}


def test_steps_of_many_clients_add_up(store_url):
    async def script(store):
        other = open_store(store_url)
        await asyncio.gather(*[s.transact(["a"], add(1)) for s in (store, other) for _ in range(50)])
        await other.close()
        return await store.read("a")

    assert using(store_url, script) == {"n": 100}


def test_what_need_not_be_kept_goes(tmp_path):
    path = tmp_path / "s.sqlite"

    def put(key):
        return lambda documents: documents.update({key: {}})

    async def script(store):
        await store.transact(["r/1", "a"], put("r/1"), keep={"r/1": 100.0})
        await store.transact(["r/2"], put("r/2"), keep={"r/2": 200.0}, now=100.5)
        return sorted(await store.find("r/"))

    assert using(f"sqlite:///{path}", script) == ["r/2"]


def test_a_store_that_is_away_refuses_for_a_while(tmp_path):
    async def script():
        store = RedisStore(f"unix://{tmp_path / 'nobody.socket'}")
        for work in (store.read("a"), store.transact(["a"], add(1)), store.find("a")):
            with pytest.raises(Refused, match="away") as caught:
                await work
            assert (caught.value.status, caught.value.retry_after) == (503, 1)
        await store.close()

    asyncio.run(script())


def test_a_broken_file_or_url_is_said(tmp_path):
    (tmp_path / "broken.sqlite").write_bytes(b"not a database, but long enough to look at" * 50)
    with pytest.raises(BadInput, match="not a database"):
        open_store(f"sqlite:///{tmp_path / 'broken.sqlite'}")
    with pytest.raises(BadInput, match="expected sqlite"):
        open_store("mysql://there")
