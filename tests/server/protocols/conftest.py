import pytest
from speaking import CONFIG, Speaking

from tests.tiny_language import tiny
from wire.local import local_client


@pytest.fixture(scope="module")
def folders(tmp_path_factory, network):
    from zoo import folder

    path = tmp_path_factory.mktemp("speaking")
    folder.save(network, path / "net")
    tiny().save(path / "kjv")
    return path


@pytest.fixture
def speaking(tmp_path, folders, cache):
    """A configuration file, with its victims' folders beside it."""
    for name in ("net", "kjv"):
        (tmp_path / name).symlink_to(folders / name)
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state" / "cache").symlink_to(cache)
    (tmp_path / "range.toml").write_text(CONFIG)
    return tmp_path / "range.toml"


@pytest.fixture
def api(speaking):
    server = Speaking(speaking)
    with local_client(server.app) as server.client:
        yield server
