"""What the document at /openapi.json promises, kept under whatever schemathesis thinks of."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from parts import SHAPE, configured, keys_of_new, serving

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
ROW = [[[0.5] * SHAPE[2]] * SHAPE[1]] * SHAPE[0]
INPUT = {"name": "input", "shape": [1, *SHAPE], "datatype": "FP32", "data": ROW}
ASKED = {
    "InferRequest": [{"inputs": [INPUT]}, {"id": "7", "inputs": [INPUT], "outputs": [{"name": "labels"}]}],
    "PredictRequest": [{"instances": [ROW]}, {"id": "7", "inputs": [ROW, ROW]}],
    "NewAccount": [{"name": "bob", "plan": "paying"}],
    "OtherPlan": [{"plan": "paying"}],
}


@pytest.fixture
def throw_away(tmp_path, network, cache):
    """A server of which nobody else wants anything, and an administrator's key."""
    config = configured(tmp_path, network, cache)
    _, key = keys_of_new(config, someone="free", root="admin")
    with serving("--config", config, cwd=tmp_path) as (url, _):
        yield url, key


def explore(url, key, folder, model, *options):
    """Runs schemathesis over our document, in which the examples are such as the model takes."""
    authorization = {"Authorization": f"Bearer {key}"}
    document = httpx.get(f"{url}/openapi.json").json()
    document["paths"].pop("/admin/alarms/stream")  # which never ends
    for name, examples in ASKED.items():
        document["components"]["schemas"][name]["examples"] = examples
    (folder / "openapi.json").write_text(json.dumps(document))
    given = {"path.model": model, "path.version": "1", "path.name": "someone"}
    lines = [f"{json.dumps(name)} = {json.dumps(value)}" for name, value in given.items()]
    (folder / "schemathesis.toml").write_text("\n".join(["[parameters]", *lines]))
    ran = subprocess.run(
        [
            *(Path(sys.executable).with_name("st"), "run", "openapi.json", "--url", url, "--no-color"),
            *("-H", f"Authorization: Bearer {key}", "--checks", CHECKS, "--seed", "0"),
            *options,
        ],
        cwd=folder,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr
    assert (
        httpx.get(f"{url}/v1/account", headers=authorization).status_code == 200
    )  # it asked with a key that holds
    assert re.search(r"(\d+) selected / \1 total", ran.stdout)


def test_no_answer_is_undocumented(throw_away, tmp_path):
    url, key = throw_away
    explore(url, key, tmp_path, "open", "--phases", "examples,coverage,fuzzing", "--max-examples", "10")
    usage = httpx.get(f"{url}/v1/account", headers={"Authorization": f"Bearer {key}"}).json()
    assert usage["requests"] >= 6  # what was right in the examples was answered


@pytest.mark.slow
@pytest.mark.parametrize("model", ["open", "limited", "labels", "other"])
def test_no_answer_is_undocumented_in_the_long_run(throw_away, tmp_path, model):
    url, key = throw_away
    explore(url, key, tmp_path, model, "--max-examples", "200")
