"""A language model behind its layers, over HTTP."""

import pytest
from speaking import CONFIG, Speaking

from wire import BadInput
from wire.local import local_client

GUARDED = CONFIG.replace(
    '    { type = "quota", rows = 400, per = "day" },\n',
    """    { type = "quota", rows = 400, per = "day" },
    { type = "top_logprobs", most = 2 },
    { type = "bias_xor_logprobs" },
    { type = "no_echo" },
    { type = "logprob_rounding", digits = 1 },
    { type = "logit_noise", sigma = 0.5 },
    { type = "green_list", key = "mark.key" },
""",
).replace(
    "[plans.free]\n", '[plans.free]\ndefenses = [{ type = "temperature_floor", temperature = 1.0, top_p = 1.0 }]\n'
)
SKIP = 'skip = ["rate_limit", "quota", "logit_noise", "green_list", "no_echo", "bias_xor_logprobs"]\n'
OWNER = "[plans.owner]\n" + SKIP


@pytest.fixture
def guarded(speaking):
    (speaking.parent / "mark.key").write_bytes(b"m" * 32)
    speaking.write_text(GUARDED.replace("[plans.free]\n", OWNER + "[plans.free]\n", 1))
    server = Speaking(speaking)
    with local_client(server.app) as server.client:
        yield server


@pytest.mark.parametrize(
    "body", [{"logprobs": 3}, {"logprobs": 1, "logit_bias": {"4": 1}}, {"echo": True, "max_tokens": 1}]
)
def test_what_a_layer_refuses_is_not_billed(guarded, body):
    answer = guarded.post(**body)
    assert answer.status_code == 400 and answer.json()["error"]["message"]
    assert guarded.billed() == (0, 0, 0, 0)
    assert guarded.post(logprobs=2).status_code == 200  # nothing of the account is in flight any more


def test_the_offer_is_told_as_each_plan_meets_it(guarded):
    def offer(plan):
        return guarded.client.get("http://local/v1/models/kjv", headers=guarded.key(plan)).json()["offer"]

    paying = {"vocabulary": 300, "context": 24, "logprobs": 2, "digits": 1, "bias_with_logprobs": False}
    assert offer("paying") == {**paying, "echo": False, "temperature": 0, "top_p": 0, "embeddings": False}
    assert offer("owner") == {**offer("paying"), "bias_with_logprobs": True, "echo": True}
    assert offer("free") == {**offer("paying"), "temperature": 1, "top_p": 1}
    listed = guarded.client.get("http://local/v1/models", headers=guarded.key("owner")).json()["data"]
    assert [one["offer"] for one in listed] == [offer("owner")]


def test_layers_change_answers_and_a_plan_may_skip_them(guarded):
    asked = {"logprobs": 2, "max_tokens": 4, "logit_bias": {}}
    noisy, again, exact = (guarded.post(plan=plan, **asked).json() for plan in ("paying", "paying", "owner"))
    assert noisy["choices"] == again["choices"] != exact["choices"]
    values = exact["choices"][0]["logprobs"]["token_logprobs"]
    assert values == [round(value, 1) for value in values]
    texts = {guarded.post(plan="free", max_tokens=6).json()["choices"][0]["text"] for _ in range(6)}
    assert len(texts) > 1  # although the client asks for temperature 0


def test_each_kind_of_model_takes_its_own_layers(speaking):
    top_k = '{ type = "top_k", k = 3 }'
    (speaking.parent / "mark.key").write_bytes(b"m" * 32)
    speaking.write_text(GUARDED.replace('{ type = "no_echo" }', top_k))
    with pytest.raises(BadInput, match="kjv: top_k changes rows' answers; a language model takes rate_limit"):
        Speaking(speaking)
    layers = 'folder = "net"\ndefenses = [{ type = "no_echo" }]\n'
    speaking.write_text(CONFIG.replace('folder = "net"\n', layers))
    with pytest.raises(BadInput, match="victim net: no_echo is a layer of language models"):
        Speaking(speaking)
    speaking.write_text(CONFIG.replace("[plans.free]\n", '[plans.free]\ndefenses = [{ type = "no_echo" }]\n'))
    server = Speaking(speaking)  # a plan's layers are for the models that they fit
    with local_client(server.app) as server.client:
        assert server.post(plan="free", echo=True).status_code == 400


def test_a_mark_is_for_all_accounts(speaking):
    (speaking.parent / "mark.key").write_bytes(b"m" * 32)
    marked = '[plans.free]\ndefenses = [{ type = "green_list", key = "mark.key" }]\n'
    speaking.write_text(CONFIG.replace("[plans.free]\n", marked))
    with pytest.raises(BadInput, match="plan free: green_list is the same for all accounts"):
        Speaking(speaking)
