"""Processes are started with logs of their own, and end with whoever started them."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from experiments.processes import Failed, Processes, free_port

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
DEAF = [sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"]
PARENT = [sys.executable, "-c", f"import subprocess, time; subprocess.Popen({SLEEP!r}); time.sleep(600)"]

# Starts a server and its child, says where, and waits for a client, until a signal ends them all.
RUN = f"""
from experiments.processes import Processes
with Processes() as processes:
    server = processes.start("server", {PARENT!r})
    print(processes.folder, server.pid, flush=True)
    processes.finish("client", {SLEEP!r})
"""


def alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def eventually(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_everything_though_a_client_is_waited_for(number):
    with subprocess.Popen([sys.executable, "-c", RUN], stdout=subprocess.PIPE, text=True) as run:
        folder, server = run.stdout.readline().split()
        children = psutil.Process(run.pid).children
        assert eventually(lambda: len(children(recursive=True)) == 3)
        started = [child.pid for child in children(recursive=True)]
        assert int(server) in started
        run.send_signal(number)
        assert run.wait(60) == 130
    assert eventually(lambda: not any(map(alive, started)))
    assert not Path(folder).exists()


def test_leaving_ends_what_still_runs_and_keeps_the_logs(tmp_path):
    with Processes(tmp_path) as processes:
        deaf = processes.start("deaf", DEAF, gently=False)
        served = processes.start("a server", SLEEP)
    assert deaf.returncode == -signal.SIGKILL and served.returncode == -signal.SIGTERM
    assert {path.name for path in (tmp_path / "logs").iterdir()} == {"deaf.log", "a-server.log"}
    with pytest.raises(Failed, match="late was not started: the run has ended"):
        processes.start("late", SLEEP)


def test_what_fails_is_named_with_its_last_line(tmp_path):
    with Processes(tmp_path) as processes:
        assert processes.finish("good", [sys.executable, "-c", "print('fine')"]) == "fine\n"
        with pytest.raises(Failed, match=r"bad failed: no such thing \(see .*bad.log\)"):
            processes.finish("bad", [sys.executable, "-c", "import sys; sys.exit('no such thing')"])
        silent = processes.start("silent", [sys.executable, "-c", "import os; os._exit(3)"])
        with pytest.raises(Failed, match="silent failed: it wrote nothing"):
            processes.wait_until_listening("silent", silent, free_port())


def test_no_setting_of_a_party_is_handed_on(tmp_path, monkeypatch):
    monkeypatch.setenv("MLAAS_KEY", "secret")
    with Processes(tmp_path) as processes:
        program = "import os; print(os.environ.get('MLAAS_KEY'), os.environ.get('MLAAS_URL'))"
        written = processes.finish("party", [sys.executable, "-c", program], environment={"MLAAS_URL": "here"})
    assert written == "None here\n"
