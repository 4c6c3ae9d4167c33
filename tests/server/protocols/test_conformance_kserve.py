"""KServe's own client, in an environment of its own, against our server: ``make conformance``."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.conformance

HERE = Path(__file__).parent
PYTHON = HERE.parents[2] / ".cache" / "conformance" / "kserve" / "bin" / "python"


@pytest.fixture(scope="module")
def found(reached, tmp_path_factory):
    url, key = reached
    x = np.random.default_rng(0).random((4, 1, 8, 8), np.float32)
    folder = tmp_path_factory.mktemp("kserve")
    np.save(folder / "x.npy", x)
    ask = [PYTHON, HERE / "kserve_client.py", url, key("kserve"), folder / "x.npy"]
    done = subprocess.run(ask, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return x, json.loads(done.stdout.splitlines()[-1])


def test_it_sees_what_is_ready(found):
    _, told = found
    assert all(told[question] for question in ("live", "ready", "model ready", "v1 live", "v1 ready"))
    assert told["no model"] is False


@pytest.mark.parametrize("binary", [False, True])
def test_it_reads_answers_in_json_and_binary(found, network, binary):
    x, told = found
    answer = told[f"binary {binary}"]
    assert (answer["id"], answer["model"]) == ("2ja0", "open")
    np.testing.assert_allclose(answer["probs"], network.predict(x), atol=1e-5)
    np.testing.assert_array_equal(answer["labels"], network.predict(x).argmax(axis=1))


def test_the_v1_protocol_takes_both_names(found, network):
    x, told = found
    for member in ("instances", "inputs"):
        np.testing.assert_array_equal(told[member], network.predict(x).argmax(axis=1))


def test_a_refusal_is_an_error(found):
    _, told = found
    kind, text = told["refusal"]
    assert kind == "HTTPStatusError" and "404" in text
