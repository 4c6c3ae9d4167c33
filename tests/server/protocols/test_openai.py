"""OpenAI's protocol: what is told, what is billed, and what is refused."""

import asyncio
import json

import pytest

from tests.tiny_language import tiny

END = "<|endoftext|>"


PROMPT = len(tiny().tokens.encode("The king said"))


def cost(prompt, told, requests):
    return prompt * 100 + told * 400 + requests * 10**6


def test_a_completion_is_the_model_s_own_and_is_billed_by_the_token(api):
    answer = api.post(max_tokens=8, logprobs=2).json()
    (choice,) = answer["choices"]
    told = answer["usage"]["completion_tokens"]
    assert answer["object"] == "text_completion" and answer["model"] == "kjv"
    assert answer["usage"] == {"prompt_tokens": PROMPT, "completion_tokens": told, "total_tokens": PROMPT + told}
    logprobs = choice["logprobs"]
    assert len(logprobs["tokens"]) == len(logprobs["token_logprobs"]) == told <= 8
    assert "".join(token for token in logprobs["tokens"] if token != END) == choice["text"]
    for token, value, top in zip(
        logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"], strict=True
    ):
        assert len(top) == 2 and max(top.values()) == top[token] == value < 0
    assert api.billed() == (PROMPT, told, 1, cost(PROMPT, told, 1))
    left = api.statement()["rows_left"]
    assert left["kjv/rate_limit"] == 200 - PROMPT - told and left["kjv/quota/day"] == 400 - PROMPT - told


def test_a_prompt_may_be_tokens_and_a_seed_draws_alike(api):
    ids = tiny().tokens.encode("The king said")
    texts = {
        api.post(prompt=prompt, temperature=1, seed=3, plan="free").json()["choices"][0]["text"]
        for prompt in ("The king said", ids, [ids])
    }
    assert len(texts) == 1
    choices = api.post(temperature=1.5, seed=3, n=3, plan="free", prompt=["Go", "Tell"]).json()["choices"]
    assert [choice["index"] for choice in choices] == list(range(6))
    assert len({choice["text"] for choice in choices}) > 3
    free = [api.post(temperature=2, plan="free", max_tokens=16).json()["choices"][0]["text"] for _ in range(4)]
    assert len(set(free)) > 1  # without a seed, each draws anew


def test_an_echo_tells_the_prompt_s_likelihood_and_costs_no_completion(api):
    (choice,) = api.post(echo=True, max_tokens=0, logprobs=0).json()["choices"]
    assert choice["text"] == "The king said"
    logprobs = choice["logprobs"]["token_logprobs"]
    assert logprobs[0] is None
    assert logprobs[1:] == pytest.approx(tiny().log_likelihoods("The king said")[1:-1].tolist(), abs=1e-4)
    assert choice["logprobs"]["text_offset"][0] == 0 and choice["finish_reason"] == "length"
    assert api.billed()[:3] == (PROMPT, 0, 1)


def test_a_stop_ends_a_text_before_it_and_what_was_not_told_is_not_billed(api):
    whole = api.post(max_tokens=12, plan="free").json()["choices"][0]["text"]
    stop = whole[4:8]
    answer = api.post(max_tokens=12, stop=[stop, "zzz"]).json()
    (choice,) = answer["choices"]
    assert choice["text"] == whole[: whole.index(stop)] and choice["finish_reason"] == "stop"
    assert api.billed()[1] == answer["usage"]["completion_tokens"] <= 12


def events(answer):
    lines = [line for line in answer.text.split("\n\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def test_a_stream_tells_the_same_and_its_usage(api):
    whole = api.post(max_tokens=10, plan="free").json()
    answer = api.post(max_tokens=10, stream=True, stream_options={"include_usage": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    *pieces, last = events(answer)
    assert "".join(piece["choices"][0]["text"] for piece in pieces) == whole["choices"][0]["text"]
    assert pieces[-1]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert len(pieces) > 3 and last["choices"] == [] and last["usage"] == whole["usage"]
    assert api.billed()[:2] == (PROMPT, whole["usage"]["completion_tokens"])


def test_a_chat_is_answered_whole_and_streamed(api):
    asked = {"messages": [{"role": "user", "content": "The king"}, {"role": "user", "content": "said"}]}
    answer = api.post("chat/completions", max_completion_tokens=6, logprobs=True, top_logprobs=20, **asked).json()
    (choice,) = answer["choices"]
    assert answer["object"] == "chat.completion" and choice["message"]["role"] == "assistant"
    assert choice["message"]["content"] == api.post(max_tokens=6).json()["choices"][0]["text"]
    first = choice["logprobs"]["content"][0]
    assert len(first["top_logprobs"]) == 20 and first["top_logprobs"][0]["token"] == first["token"]
    assert bytes(first["bytes"]).decode() == first["token"]
    pieces = events(api.post("chat/completions", max_tokens=6, stream=True, plan="free", **asked))
    deltas = [piece["choices"][0]["delta"] for piece in pieces]
    assert "".join(delta["content"] for delta in deltas) == choice["message"]["content"]
    assert [delta.get("role") for delta in deltas] == ["assistant", *[None] * (len(deltas) - 1)]


def asgi(api, events_before_leaving, **body):
    """Asks with a client that leaves after so many events; returns the events that it got."""
    content, got = json.dumps({"model": "kjv", "prompt": "The king said", **body}).encode(), []

    async def ask():
        left = asyncio.Event()
        first = True

        async def receive():
            nonlocal first
            if first:
                first = False
                return {"type": "http.request", "body": content, "more_body": False}
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            if message.get("body", b"").startswith(b"data: "):
                got.append(json.loads(message["body"].removeprefix(b"data: ")))
            if len(got) >= events_before_leaving:
                left.set()
                await asyncio.sleep(0)  # so that the server learns of it before it goes on
                await asyncio.sleep(0)

        headers = [(b"authorization", api.key()["Authorization"].encode()), (b"host", b"local")]
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/completions",
            "raw_path": b"/v1/completions",
            "query_string": b"",
            "headers": [*headers, (b"content-length", b"%d" % len(content))],
            "http_version": "1.1",
            "scheme": "http",
            "client": ("127.0.0.1", 1),
            "server": ("local", 80),
        }
        if not events_before_leaving:
            left.set()
        await api.app(scope, receive, send)

    api.client._transport._portal.call(ask)
    return got


@pytest.mark.parametrize("leaves_after", [1, 3])
def test_a_stream_that_is_cut_is_billed_to_the_token(api, leaves_after):
    api.key()
    got = asgi(api, leaves_after, max_tokens=16, stream=True, logprobs=0, logit_bias={"0": -100}, temperature=1)
    told = sum(len(piece["choices"][0]["logprobs"]["tokens"]) for piece in got)
    assert leaves_after <= told < 16
    assert api.billed() == (PROMPT, told, 1, cost(PROMPT, told, 1))
    api.post(plan="free")  # the next trip to the store notes what was answered
    assert api.statement()["unanswered"] == {"rows": 0, "requests": 0, "micro_cents": 0}


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_before_anything_is_told_is_not_billed(api, stream):
    api.key()
    assert asgi(api, 0, max_tokens=16, stream=stream) == []
    assert api.billed() == (0, 0, 0, 0)


def test_a_request_with_a_key_is_billed_once_and_draws_alike(api):
    asked = {"temperature": 2, "max_tokens": 12, "headers": {"Idempotency-Key": "one"}}
    first, again = (api.post(**asked).json() for _ in range(2))
    assert first["choices"] == again["choices"]
    told = first["usage"]["completion_tokens"]
    assert api.billed()[:3] == (PROMPT, told, 1)
    other = api.post(**{**asked, "prompt": "Go"}).json()  # another request under the same key
    assert api.billed()[2] == 2 and other["choices"] != first["choices"]


def test_limits_count_what_may_be_told_before_it_is_and_what_was_told_after(api):
    full = {"max_tokens": 16, "logit_bias": {"0": -100}, "n": 10}  # 160 tokens and the prompt
    assert api.post(**full).status_code == 200
    refused = api.post(**full)
    assert refused.status_code == 429 and "tokens" in refused.json()["error"]["message"]
    assert int(refused.headers["retry-after"]) > 0
    assert api.billed()[:3] == (PROMPT, 160, 1)
    ended = api.post(max_tokens=20 - PROMPT, logit_bias={"0": 100}).json()  # the end, at once
    assert ended["usage"]["completion_tokens"] == 1 and ended["choices"][0]["finish_reason"] == "stop"
    assert api.billed()[:3] == (2 * PROMPT, 161, 2)
