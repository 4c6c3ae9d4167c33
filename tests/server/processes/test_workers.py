"""Several workers behind one socket: they are kept alive, they end together, and together they are one server."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from working import lives, until

from server.processes.supervisor import PAUSE

IDLER = Path(__file__).with_name("idler.py")


class Parent:
    """A parent of workers that serve nobody."""

    def __init__(self, folder, count=2):
        self.folder, self.count = folder, count
        command = [sys.executable, str(IDLER), str(folder), str(count)]
        imports = folder / "imports"
        (folder / "noted.py").write_text(f"with open({str(imports)!r}, 'a') as file:\n    file.write('once ')\n")
        path = os.pathsep.join([str(Path(__file__).parents[3]), str(folder)])
        self.process = subprocess.Popen(
            command, env={**os.environ, "PYTHONPATH": path}, start_new_session=True, stderr=subprocess.PIPE
        )

    def workers(self):
        """Returns the living workers' process ids by number."""
        notes = [path.name.split("-") for path in self.folder.glob("*-*")]
        return {int(number): int(pid) for number, pid in notes if lives(int(pid))}

    def all_up(self):
        return until(lambda: len(found := self.workers()) == self.count and found)

    def got(self, number, pid):
        return (self.folder / f"{number}-{pid}").read_text()


@pytest.fixture
def parent(tmp_path):
    parent = Parent(tmp_path)
    yield parent
    with contextlib.suppress(ProcessLookupError):
        os.killpg(parent.process.pid, signal.SIGKILL)
    parent.process.communicate()


def test_a_worker_that_dies_is_replaced(parent):
    before = parent.all_up()
    os.kill(before[1], signal.SIGKILL)
    after = until(lambda: len(found := parent.workers()) == 2 and found[1] != before[1] and found)
    assert after[0] == before[0]


def test_a_replacement_does_not_import_again(parent):
    for _ in range(2):
        before = parent.all_up()
        os.kill(before[0], signal.SIGKILL)
        until(lambda old=before[0]: parent.workers().get(0, old) != old)
    assert (parent.folder / "imports").read_text() == "once "


def fork_server_of(worker):
    return int(Path(f"/proc/{worker}/stat").read_text().rsplit(")", 1)[1].split()[1])


def test_the_fork_server_holds_sigterm_back(parent):
    status = Path(f"/proc/{fork_server_of(parent.all_up()[0])}/status").read_text()
    assert int(re.search(r"SigBlk:\s*(\w+)", status)[1], 16) >> (signal.SIGTERM - 1) & 1


def test_the_end_of_the_fork_server_ends_no_service(parent):
    before = parent.all_up()
    fork_server = fork_server_of(before[0])
    os.kill(fork_server, signal.SIGKILL)
    until(lambda: len(found := parent.workers()) == 2 and not set(found.values()) & set(before.values()))
    until(lambda: not any(map(lives, before.values())))


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_all_are_told_once_and_nobody_stays(parent, signum):
    workers = parent.all_up()
    os.killpg(parent.process.pid, signum)  # as a terminal's Ctrl-C does
    assert parent.process.wait(20) == 0
    for number, pid in workers.items():
        assert not lives(pid) and parent.got(number, pid) == signum.name


def test_a_second_signal_is_handed_on(parent):
    (parent.folder / "stubborn").touch()
    workers = parent.all_up()
    for _ in range(2):
        os.kill(parent.process.pid, signal.SIGTERM)
        time.sleep(0.3)
    assert parent.process.wait(20) == 0
    assert [parent.got(*worker) for worker in workers.items()] == ["SIGTERM SIGTERM"] * 2


def test_workers_do_not_outlive_their_parent(parent):
    workers = parent.all_up()
    os.kill(parent.process.pid, signal.SIGKILL)
    until(lambda: not any(map(lives, workers.values())))


def test_a_worker_that_cannot_start_is_tried_again_but_not_at_once(parent):
    before = parent.all_up()
    (parent.folder / "broken").touch()
    os.kill(before[0], signal.SIGKILL)
    tries = parent.folder / "tries"
    until(lambda: tries.exists() and tries.read_text().count("\n") == 3)
    assert set(parent.workers()) == {1}
    created, failed = np.loadtxt(tries).T
    assert min(created[1:] - failed[:-1]) > PAUSE - 0.05  # the kernel notes creation in ticks
    (parent.folder / "broken").unlink()
    parent.all_up()
    os.kill(parent.process.pid, signal.SIGTERM)
    assert "worker 0 ended with" in parent.process.communicate(timeout=20)[1].decode()
