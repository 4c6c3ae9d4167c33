import pytest
import redis


@pytest.fixture(params=["sqlite", "redis"])
def store_url(request, tmp_path):
    """Each kind of store, empty."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.sqlite'}"
    own = request.getfixturevalue("own_redis")
    with redis.Redis(unix_socket_path=own.socket_file) as client:
        client.flushall()
    return f"unix://{own.socket_file}"
