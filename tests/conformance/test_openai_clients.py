"""Clients of OpenAI's API, in an environment of their own, against our server: ``make conformance``."""

import json
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.server.parts import keys_of_new, serving
from tests.tiny_language import tiny

pytestmark = pytest.mark.conformance

HERE = Path(__file__).parent
PEERS = HERE.parents[1] / ".cache" / "conformance"
CONFIG = """
state = "state"
[plans.free]
price_per_prompt_token = "0.000001"
price_per_completion_token = "0.000004"
[[victims]]
name = "kjv"
folder = "kjv"
embeddings = true
defenses = [{ type = "rate_limit", rows_per_second = 100_000, burst = 100_000 }]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server's URL, and what makes the key of a new account."""
    folder = tmp_path_factory.mktemp("openai")
    tiny().save(folder / "kjv")
    (folder / "range.toml").write_text(CONFIG)
    with serving("--config", "range.toml", cwd=folder) as (url, _):
        yield url, lambda name: keys_of_new(f"sqlite:///{folder / 'state' / 'range.sqlite'}", **{name: "free"})[0]


def calls(server, client):
    """What a client was told, and what its account was billed."""
    url, new_key = server
    key = new_key(client)
    run = [PEERS / "openai" / "bin" / "python", HERE / "openai_calls.py", client, url, key]
    done = subprocess.run(run, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])  # litellm prints advice
    bill = httpx.get(f"{url}/v1/account", headers={"Authorization": f"Bearer {key}"}).json()
    counted = [sum(part) for part in zip(*told["usage"], strict=True)]
    assert list(bill["tokens"]["kjv"].values()) == counted
    assert bill["micro_cents"] == 100 * counted[0] + 400 * counted[1]
    assert bill["requests"] == len(told["usage"])  # what was refused is not billed
    return told


def tokens(text):
    """Returns how many tokens a text has; the first call trains the model."""
    return len(tiny().tokens.encode(text))


def test_openai_s_own_client_is_answered_and_counts_what_is_billed(server):
    told = calls(server, "openai")
    prompt, chat = tokens("The king said"), tokens("Go The king said")
    assert told["models"] == ["kjv"] == [told["model"]]
    assert told["text"] == told["streamed"] and set(told["top"]) == {5}
    assert told["biased"] == [2 * tiny().tokens.decode([9])] * 3
    assert told["echoed"] == "The king said"
    assert told["chat"] == told["chat_streamed"] and set(told["chat_top"]) == {20}
    assert told["finish"] in ("length", "stop")
    assert [asked for asked, _ in told["usage"]] == [
        *(prompt, 3, prompt, prompt, chat, chat),
        *(prompt + tokens("Go"), 2, prompt),
    ]
    assert told["widths"] == [16, 16, 16]
    assert int(told["headers"]["x-ratelimit-remaining-tokens"]) > 0
    errors = {name: found[0] for name, found in told["errors"].items()}
    assert errors == {"bias": 400, "model": 404, "long": 400, "key": 401}
    assert "no token '9999'" in told["errors"]["bias"][1] and all(found[1] for found in told["errors"].values())
    assert told["errors"]["bias"][2] == "invalid_request_error"


def test_litellm_is_answered_and_counts_what_is_billed(server):
    told = calls(server, "litellm")
    assert told["chat"] == told["chat_streamed"] and set(told["chat_top"]) == {3}
    assert len(told["texts"]) == 2 and told["texts"][0] == told["texts"][1]
    prompt, chat = tokens("The king said"), tokens("Go The king said")
    assert [asked for asked, _ in told["usage"]] == [chat, chat, prompt]
    assert told["errors"]["long"][0] == 400 and "context" in told["errors"]["long"][1]


def test_garak_s_rest_generator_is_answered(server):
    url, new_key = server
    run = [PEERS / "garak" / "bin" / "python", HERE / "garak_calls.py", url, new_key("garak")]
    done = subprocess.run(run, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    (likeliest,) = set(told["completions"])
    assert told == {"completions": [likeliest] * 2, "chat/completions": [likeliest] * 2} and likeliest


def test_curl_is_answered_whole_and_streamed(server):
    url, new_key = server
    asked = {"model": "kjv", "prompt": "The king said", "max_tokens": 6, "temperature": 0}
    head = ["curl", "-sf", f"{url}/v1/completions", "-H", f"Authorization: Bearer {new_key('curl')}"]

    def curl(**more):
        body = json.dumps({**asked, **more})
        return subprocess.run([*head, "-d", body], capture_output=True, text=True, timeout=60, check=True).stdout

    whole = json.loads(curl())["choices"][0]["text"]
    events = [line.removeprefix("data: ") for line in curl(stream=True).split("\n\n") if line]
    assert events[-1] == "[DONE]"
    assert "".join(json.loads(event)["choices"][0]["text"] for event in events[:-1]) == whole != ""
