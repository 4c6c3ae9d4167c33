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


PLACE = "http://local/admin/models/kjv/defenses"


@pytest.fixture
def administered(speaking):
    speaking.write_text(CONFIG.replace("[plans.free]", "[plans.admin]\nadmin = true\n[plans.free]", 1))
    server = Speaking(speaking)
    with local_client(server.app) as server.client:
        yield server, server.headers("admin", "root")


def test_an_administrator_replaces_a_stack_while_the_server_runs_and_restores_it(administered):
    api, root = administered
    configured = api.client.get(PLACE, headers=root).json()
    assert [layer["type"] for layer in configured["defenses"]] == ["rate_limit", "quota"]
    assert api.post(plan="free", logprobs=3, max_tokens=2).status_code == 200
    stack = {"defenses": [{"type": "top_logprobs", "most": 1}, {"type": "no_echo"}]}
    assert api.client.put(PLACE, headers=root, json=stack).json() == stack
    assert api.client.get(PLACE, headers=root).json() == stack
    refused = api.post(plan="free", logprobs=3, max_tokens=2)
    assert refused.status_code == 400 and "at most 1" in refused.json()["error"]["message"]
    offer = api.client.get("http://local/v1/models/kjv", headers=api.key("free")).json()["offer"]
    assert (offer["logprobs"], offer["echo"]) == (1, False)
    full = {"max_tokens": 16, "logit_bias": {"0": -100}, "n": 10}
    assert [api.post(**full).status_code for _ in range(3)] == [200] * 3  # there is no rate limit any more
    assert api.client.delete(PLACE, headers=root).json() == configured
    assert api.post(plan="free", logprobs=3, max_tokens=2).status_code == 200
    assert 429 in [api.post(**full).status_code for _ in range(2)]
    audit = api.client.get("http://local/admin/audit", headers=root).json()
    done = [each["do"] for each in audit if each.get("model") == "kjv"]
    assert done == ["replace defenses", "restore defenses"]


@pytest.mark.parametrize(
    ("stack", "said"),
    [
        ([{"type": "label_only"}], "a language model takes"),
        ([{"type": "top_logprobs"}], "most"),
        ([{"type": "top_logprobs", "most": 2}, {"type": "rate_limit", "rows_per_second": 1, "burst": 9}], ""),
        ([{"type": "green_list", "key": "/nowhere/mark.key"}], "make a key with"),
        ([{"type": "unheard"}], "there is no defence 'unheard'"),
    ],
)
def test_a_stack_that_cannot_be_is_refused_and_the_former_one_stays(administered, stack, said):
    api, root = administered
    refused = api.client.put(PLACE, headers=root, json={"defenses": stack})
    assert refused.status_code == 400 and said in refused.text
    assert api.post(plan="free", logprobs=3, max_tokens=2).status_code == 200
    assert len(api.client.get(PLACE, headers=root).json()["defenses"]) == 2


def test_only_an_administrator_replaces_a_stack_and_a_language_model_has_no_marks(administered):
    api, root = administered
    assert api.client.put(PLACE, headers=api.key("free"), json={"defenses": []}).status_code == 403
    assert api.client.post("http://local/admin/models/kjv/marks/commit", headers=root).status_code == 404


def test_a_stack_that_other_settings_cannot_bind_withdraws_the_model(speaking, tmp_path):
    speaking.write_text(CONFIG.replace("[plans.free]", "[plans.admin]\nadmin = true\n[plans.free]", 1))
    key = tmp_path / "mark.key"
    key.write_bytes(b"m" * 32)
    first = Speaking(speaking)
    with local_client(first.app) as first.client:
        stack = {"defenses": [{"type": "green_list", "key": str(key)}]}
        assert first.client.put(PLACE, headers=first.headers("admin", "root"), json=stack).status_code == 200
    key.unlink()
    later = Speaking(speaking)
    with local_client(later.app) as later.client:
        later.client.get("http://local/v1/models", headers=later.key("free"))
        gone = later.post(plan="free", max_tokens=2)
        assert gone.status_code == 503 and "withdrawn" in gone.text
