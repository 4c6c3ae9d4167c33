"""What a server does whose store cannot be written."""

import contextlib
import logging
import resource
import stat
import subprocess
import sys

import pytest
from parts import command

from defenses.store import open_store
from wire import BadInput


@contextlib.contextmanager
def full_disk(*files):
    """Lets no file of this process grow beyond the present size of the largest of some."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max(file.stat().st_size for file in files), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_shows_in_readiness_and_twice_in_the_log(local, rows, monkeypatch, caplog):
    monkeypatch.setattr("server.deployment.service.PROBE_SECONDS", 0.0)
    headers, body = local.headers(), {"instances": rows[:2].tolist()}

    def statuses():
        asked = local.client.post("/v1/models/open:predict", json=body, headers=headers)
        return asked.status_code, local.client.get("/v2/health/ready").status_code

    assert statuses() == (200, 200)
    files = list((local.settings.state).glob("range.sqlite*"))
    with caplog.at_level(logging.WARNING, "defenses.store"), full_disk(*files):
        told = [statuses() for _ in range(200)]
    full = told.index((503, 503))  # until then there is room in the file
    assert set(told[full:]) == {(503, 503)}
    with caplog.at_level(logging.WARNING, "defenses.store"):
        assert [statuses() for _ in range(3)][-1] == (200, 200)
    began, ended = [record.getMessage() for record in caplog.records if record.name.startswith("defenses.store")]
    assert "unavailable" in began and "available again" in ended
    answered = sum(asked == 200 for asked, _ in [(200, 200), *told, (200, 200)])
    ledger = local.client.get("/v1/account", headers=headers).json()
    assert ledger["requests"] in range(answered, answered + 3)


def modes(folder):
    return {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


def test_other_users_may_not_read_what_a_server_keeps(tmp_path):
    command(
        "server",
        "--state",
        "state",
        "accounts",
        "create",
        "a",
        "--plan",
        "owner",
        "--key-file",
        "key",
        cwd=tmp_path,
    )
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    assert modes(tmp_path / "state") == {0o600} and stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_the_log_of_a_store_is_as_private_as_the_store(tmp_path):
    script = (
        "import os, sys; os.umask(0o022); from defenses.store import open_store; open_store(sys.argv[1]); "
        "print(*sorted(oct(f.stat().st_mode) for f in __import__('pathlib').Path('state').iterdir()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "sqlite:///state/s.sqlite"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["0o100600"] * 3  # the file, its log and its index


def test_a_store_that_others_may_read_is_refused_with_the_remedy(tmp_path):
    path = tmp_path / "s.sqlite"
    path.touch(mode=0o600)
    path.chmod(0o644)
    with pytest.raises(BadInput, match=rf"mode 644.*chmod 600 {path}\*"):
        open_store(f"sqlite:///{path}")
    path.chmod(0o600)
    open_store(f"sqlite:///{path}")._db.close()
