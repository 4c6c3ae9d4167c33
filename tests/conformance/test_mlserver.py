"""Attackers and owner against MLServer as it is, in an environment of its own: ``make conformance``."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import httpx
import numpy as np
import pytest

from wire.http import CardOptions, Endpoint
from zoo.data.pool import Pool

pytestmark = pytest.mark.conformance

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BIN = ROOT / ".cache" / "conformance" / "mlserver" / "bin"
NAMES = tuple(map(str, range(10)))


def free_ports(count):
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in listeners]


@pytest.fixture(scope="module")
def mlserver(tmp_path_factory):
    """MLServer's URL, how many requests it says it has answered, what its model answers, and our files."""
    folder, ports = tmp_path_factory.mktemp("mlserver"), free_ports(3)
    prepare = [BIN / "python", HERE / "mlserver_model.py", *map(str, ports)]
    subprocess.run(prepare, cwd=folder, check=True, timeout=120)
    expected = dict(np.load(folder / "expected.npz", allow_pickle=False))
    x, y, members = expected["x"], expected["y"].astype(np.int64), int(expected["members"])
    Pool(x[members:], None, NAMES).save(folder / "pool.npz")
    Pool(x[:members], y[:members], NAMES).save(folder / "private.npz")
    Pool(x[members:], y[members:], NAMES).save(folder / "unseen.npz")
    Pool(x[members - 100 : members + 100], y[members - 100 : members + 100], NAMES).save(folder / "candidates.npz")
    url = f"http://127.0.0.1:{ports[0]}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([BIN / "mlserver", "start", "."], cwd=folder, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while not ready(url):
            said = (folder / "log").read_text()[-2000:]
            assert process.poll() is None and time.monotonic() < deadline, f"MLServer did not come up: {said}"
            time.sleep(0.2)
        yield url, lambda model: answered(ports[2], model), expected, folder
    finally:
        process.terminate()
        process.wait(20)


def ready(url):
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{url}/v2/health/ready").status_code == 200
    return False


def answered(port, model):
    """How many requests MLServer's own metrics count for a model."""
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    found = re.findall(rf'^model_infer_request_success_total{{model="{model}".*}} (\S+)$', text, re.MULTILINE)
    return int(sum(map(float, found)))


def command(*arguments, cwd):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLAAS_")}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_knockoff_steals_it(mlserver):
    url, count, expected, folder = mlserver
    before = count("digits")
    steal = ("attacker", "knockoff", "--url", url, "--model", "digits", "--range", 0, 1, "--budget", 1000)
    command(*steal, "--pool", "pool.npz", "--family", "mlp", "--out", "stolen", cwd=folder)
    result = json.loads((folder / "stolen" / "result.json").read_text())
    assert (result["status"], result["rows"], result["requests"]) == ("done", 1000, count("digits") - before)
    told = np.load(folder / "stolen" / "transfer.npz", allow_pickle=False)
    bare = {row.tobytes(): probs for row, probs in zip(expected["x"], expected["probs"], strict=True)}
    np.testing.assert_allclose(told["probs"], [bare[row.tobytes()] for row in told["x"]], atol=1e-5)
    np.testing.assert_array_equal(told["labels"], np.argmax(told["probs"], axis=1))


def test_confidence_judges_membership_in_it(mlserver):
    url, count, expected, folder = mlserver
    before = count("digits")
    spy = ("attacker", "confidence", "--url", url, "--model", "digits", "--range", 0, 1, "--budget", 200)
    command(*spy, "--candidates", "candidates.npz", "--out", "spied", cwd=folder)
    result = json.loads((folder / "spied" / "result.json").read_text())
    assert (result["status"], result["rows"], result["requests"]) == ("done", 200, count("digits") - before)
    scores, y = (np.load(folder / "spied" / "scores.npz", allow_pickle=False)[name] for name in ("scores", "y"))
    middle = int(expected["members"])
    np.testing.assert_allclose(
        scores, expected["probs"][middle - 100 : middle + 100][np.arange(200), y], atol=1e-5
    )


def test_the_owner_audits_it(mlserver):
    url, count, _, folder = mlserver
    before = count("digits")
    card = ("--url", url, "--model", "digits", "--range", 0, 1)
    victim = ("--victim", url, "--victim-model", "digits", "--victim-range", 0, 1)
    small = ("--fit-images", 20, "--test-images", 20, "--starts", 2, "--walk-steps", 20)
    files = ("--private", "private.npz", "--unseen", "unseen.npz", "--out", "evidence.json")
    command("owner", "dataset-inference", *card, *victim, *small, *files, cwd=folder)
    evidence = json.loads((folder / "evidence.json").read_text())
    assert evidence["suspect_queries"] > 0 and evidence["details"]["victim_queries"] > 0
    assert count("digits") - before >= (evidence["suspect_queries"] + evidence["details"]["victim_queries"]) // 64
    assert 0 <= evidence["p_value"] <= 1


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("digits", CardOptions(output=("predict=labels",))),
        ("silent", CardOptions(input="x", output=("predict_proba=probs",), shape=(64,), classes=10)),
    ],
)
def test_its_card_is_completed_by_options(mlserver, model, options):
    url, _, expected, _ = mlserver
    with closing(Endpoint(url, model=model, options=options)) as endpoint:
        assert (endpoint.card.classes, endpoint.card.input_shape) == (10, (64,))
        answer = endpoint(expected["x"][:50])
    np.testing.assert_array_equal(answer.labels, expected["probs"][:50].argmax(axis=1))
