"""Clients are processes of their own, forked from one that has loaded the libraries, and end with their parent."""

import json
import signal
import subprocess
import sys
import time

import psutil
import pytest

from experiments.parties import Job, Parties
from experiments.processes import Failed

TELLS = """
import json, os, sys
libraries = {"torch", "scipy.stats"} <= set(sys.modules)
print(json.dumps([__name__, sys.argv[1:], os.getcwd(), os.getsid(0) == os.getpid(), libraries]))
print(json.dumps({name: value for name, value in os.environ.items() if name.startswith(("MLAAS_", "OMP_NUM"))}))
"""
SLEEPS = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(os.getpid(), child.pid, flush=True)
time.sleep(600)
"""
FAILS = """
import pathlib, sys, time
log = pathlib.Path("logs/sleeps.log")
while not (log.exists() and log.read_text().endswith("\\n")):
    time.sleep(0.05)
sys.exit("no such thing")
"""

# Runs a client, in a process whose fork server is its own.
RUN = """
import pathlib, sys
from experiments.parties import Job, Parties
if __name__ == "__main__":
    folder = pathlib.Path.cwd()
    with Parties(folder) as parties:
        job = Job("a client", [sys.argv[1], "--flag"], folder / "party", {"MLAAS_URL": "here"})
        parties.run([job], at_once=2, label="test")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name, program in {"tells": TELLS, "sleeps": SLEEPS, "fails": FAILS, "run": RUN}.items():
        (tmp_path / f"{name}.py").write_text(program)
    (tmp_path / "party").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


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


def test_a_client_is_a_module_that_runs_in_a_process_and_a_folder_of_its_own(folder, monkeypatch):
    monkeypatch.setenv("MLAAS_KEY", "secret")
    subprocess.run([sys.executable, "-m", "run", "tells"], cwd=folder, check=True, stderr=subprocess.DEVNULL)
    about, environment = (folder / "logs" / "a-client.log").read_text().splitlines()
    assert json.loads(about) == ["__main__", ["--flag"], str(folder / "party"), True, True]
    assert json.loads(environment) == {"MLAAS_URL": "here", "OMP_NUM_THREADS": "1"}


def test_a_failure_ends_what_runs_and_starts_no_more(folder):
    jobs = [Job(name, [name], folder) for name in ("sleeps", "fails", "tells")]
    with Parties(folder) as parties:
        with pytest.raises(Failed, match=r"fails failed: no such thing \(see .*fails.log\)"):
            parties.run(jobs, at_once=2, label="test")
        slept = [int(pid) for pid in parties.log("sleeps").read_text().split()]
        assert eventually(lambda: not any(map(alive, slept)))
        assert not parties.log("tells").exists()


def test_a_signal_ends_the_clients(folder):
    log = folder / "logs" / "a-client.log"
    with subprocess.Popen([sys.executable, "-m", "run", "sleeps"], cwd=folder, stderr=subprocess.DEVNULL) as run:
        assert eventually(lambda: log.exists() and log.read_text().endswith("\n"))
        slept = [int(pid) for pid in log.read_text().split()]
        assert len(slept) == 2 and all(map(alive, slept))
        run.send_signal(signal.SIGINT)
        assert run.wait(60) == 130
    assert eventually(lambda: not any(map(alive, slept)))
