"""A small request of OpenAI's protocol costs little, and does not slow its neighbours."""

import json
import time

import pytest

BUDGET = 0.1  # seconds of a processor, as in test_costs; most took under a hundredth
MOST = 16_000  # bytes of a body


def body(**fields):
    content = json.dumps({"model": "kjv", "max_tokens": 1, **fields}).encode()
    assert len(content) <= MOST
    return content


WIDE = "\U0001f642" * 20
ATTACKS = {
    "deep lists": ("completions", b'{"model":"kjv","prompt":' + b"[" * 15_000 + b"}"),
    "many prompts": ("completions", body(prompt=["a" * 110] * 127 + ["\x00"])),
    "many prompts of odd characters": ("completions", body(prompt=[WIDE[:9]] * 128)),
    "more prompts than are read": ("completions", body(prompt=[""] * 3000)),
    "a long prompt": ("completions", body(prompt="a " * 7000)),
    "a long prompt of spaces": ("completions", body(prompt=" " * 15_000)),
    "many tokens": ("completions", body(prompt=[5] * 5000)),
    "mixed prompts": ("completions", body(prompt=[[5], "a"] * 600)),
    "many biases": ("completions", body(prompt="a", logit_bias={str(i): 1 for i in range(1500)})),
    "long names of biases": (
        "completions",
        body(prompt="a", logit_bias={"7" * 4000 + str(i): 1 for i in range(3)}),
    ),
    "large numbers": ("completions", b'{"model":"kjv","prompt":"a","seed":' + b"9" * 15_000 + b"}"),
    "long stops": ("completions", body(prompt="a", stop=["a" * 3000] * 4)),
    "many stops": ("completions", body(prompt="a", stop=["a"] * 3000)),
    "many messages": ("chat/completions", body(messages=[{"role": "user", "content": "a"}] * 400)),
    "many parts": (
        "chat/completions",
        body(messages=[{"role": "user", "content": [{"type": "text", "text": "a"}] * 480}]),
    ),
    "unknown fields": ("chat/completions", body(messages=[], **{f"f{i}": 0 for i in range(900)})),
    "many texts to embed": ("embeddings", body(input=["a" * 110] * 127)),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_small_body_that_is_refused_costs_little(api, name):
    route, content = ATTACKS[name]
    api.key("free")
    spent = []
    for _ in range(3):  # the least of three, since other work on the machine adds to it
        begun = time.process_time()
        status = api.raw(content, route, plan="free").status_code
        spent.append(time.process_time() - begun)
        assert status in (400, 404, 413)
        if spent[-1] < BUDGET:
            break
    assert min(spent) < BUDGET


def test_a_text_of_stops_is_read_in_little_time(api):
    begun = time.process_time()
    answer = api.post(plan="free", max_tokens=16, stop=["e" * 63 + str(i) for i in range(4)], logit_bias={"5": 50})
    assert answer.status_code == 200 and time.process_time() - begun < 10 * BUDGET
