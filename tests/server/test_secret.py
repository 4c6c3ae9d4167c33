"""The server's secret is drawn once: noise and marks derive from it."""

import asyncio
import sqlite3
from contextlib import closing

import pytest
from parts import Local

from defenses.store import open_store
from server.app import server_secret
from wire import BadInput


@pytest.fixture(params=["sqlite", "redis"])
def store(request, tmp_path):
    """The URL of an empty store, and a function that loses a log in it."""
    if request.param == "redis":
        redis = request.getfixturevalue("own_redis")
        redis.flushall()
        return f"unix://{redis.socket_file}", lambda log: redis.delete(f"mlaas-range:log:{log}")

    file = tmp_path / "range.sqlite"
    return f"sqlite:///{file}", lambda log: execute(file, f"DELETE FROM entries WHERE log = '{log}'")


def execute(file, statement):
    with closing(sqlite3.connect(file)) as opened, opened:
        opened.execute(statement)


async def drawn(url):
    opened = open_store(url)
    try:
        return await server_secret(opened)
    finally:
        await opened.close()


async def test_all_processes_share_one_secret(store):
    url, _ = store
    secrets = await asyncio.gather(*(drawn(url) for _ in range(4)))
    assert len(set(secrets)) == 1 and len(secrets[0]) == 32 and await drawn(url) == secrets[0]


async def test_a_lost_secret_is_not_drawn_again(store):
    url, lose = store
    await drawn(url)
    lose("secret")
    for _ in range(2):
        with pytest.raises(BadInput, match=r"has lost the server's secret.*from a backup"):
            await drawn(url)


def test_a_store_of_an_earlier_version_is_known_from_its_next_start_on(config):
    server = Local(config)
    file = config.parent / "state" / "range.sqlite"
    execute(file, "DELETE FROM levels WHERE account = 'server/secret'")
    asyncio.run(server_secret(server.store))
    execute(file, "DELETE FROM entries WHERE log = 'secret'")
    with pytest.raises(BadInput, match="has lost"):
        asyncio.run(server_secret(server.store))
