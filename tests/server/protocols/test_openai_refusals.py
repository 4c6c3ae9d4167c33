"""What the OpenAI protocol lists and refuses, and in which form."""

import pytest
from speaking import Speaking


def test_a_plan_s_layers_about_rows_are_said_not_to_protect_a_language_model(speaking, caplog):
    layers = 'defenses = [{ type = "quota", rows = 9, per = "day" }, { type = "top_k", k = 3 }]\n'
    speaking.write_text(speaking.read_text().replace("[plans.free]\n", "[plans.free]\n" + layers))
    Speaking(speaking)
    said = [each.getMessage() for each in caplog.records if "does not protect" in each.getMessage()]
    assert said == ["plan free: its layer top_k does not protect kjv"]


def test_both_kinds_of_models_are_listed(api):
    told = api.client.get("http://local/v1/models", headers=api.key()).json()
    assert told["models"] == ["net", "kjv"] and told["object"] == "list"
    assert [(one["id"], one["object"]) for one in told["data"]] == [("kjv", "model")]
    assert api.client.get("http://local/v1/models/kjv", headers=api.key()).json()["id"] == "kjv"
    assert api.client.get("http://local/v1/models/net", headers=api.key()).json() == {"name": "net", "ready": True}


BAD = {
    "a token outside the vocabulary": ({"logit_bias": {"300": 1}}, 400),
    "a token that is none": ({"logit_bias": {"king": 1}}, 400),
    "301 biases": ({"logit_bias": {str(i): 1 for i in range(301)}}, 400),
    "a large bias": ({"logit_bias": {"3": 101}}, 400),
    "an endless bias": ({"logit_bias": {"3": 1e999}}, 400),
    "ids outside the vocabulary": ({"prompt": [300]}, 400),
    "negative ids": ({"prompt": [-1]}, 400),
    "mixed prompts": ({"prompt": [3, "Go"]}, 400),
    "no prompts": ({"prompt": []}, 400),
    "a long prompt": ({"prompt": "The king said unto them. " * 10}, 400),
    "a very long prompt": ({"prompt": "x" * 15000}, 400),
    "an echo of a prompt as long as the context": ({"prompt": [5] * 24, "echo": True, "max_tokens": 0}, 400),
    "too many tokens": ({"max_tokens": 30}, 400),
    "no tokens": ({"max_tokens": 0}, 400),
    "many texts": ({"n": 100}, 413),
    "very many texts": ({"n": 10**18}, 413),
    "no texts": ({"n": 0}, 400),
    "hot": ({"temperature": 2.1}, 400),
    "cold": ({"temperature": -1}, 400),
    "top_p": ({"top_p": 1.5}, 400),
    "six logprobs": ({"logprobs": 6}, 400),
    "an empty stop": ({"stop": ""}, 400),
    "five stops": ({"stop": ["a"] * 5}, 400),
    "a penalty": ({"presence_penalty": 1}, 400),
    "a misspelt field": ({"temprature": 1}, 400),
    "another type": ({"max_tokens": "many"}, 400),
    "no such model": ({"model": "gpt-7"}, 404),
    "a model of rows": ({"model": "net"}, 404),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_requests_get_openai_s_error_and_no_bill(api, case):
    body, status = BAD[case]
    answer = api.post(**body)
    error = answer.json()["error"]
    assert answer.status_code == status, error
    assert error["message"] and error["type"] and "code" in error
    assert api.billed() == (0, 0, 0, 0)


@pytest.mark.parametrize(
    "content",
    [
        b'{"model": "kjv", "prompt": "\xff"}',
        b'{"model": "kjv", "prompt": "\\ud800"}',
        b'{"model": "kjv", "temperature": NaN}',
        b"[" * 10000,
        b"",
        b'{"model": "kjv", "messages": []}',
    ],
)
def test_bytes_that_are_no_request_are_refused(api, content):
    for route in ("completions", "chat/completions"):
        answer = api.raw(content, route)
        assert answer.status_code == 400 and answer.json()["error"]["message"]
    assert api.billed() == (0, 0, 0, 0)


def test_a_chat_has_messages_of_known_roles(api):
    for messages in ([{"role": "{% for x in y %}", "content": "a"}], [{"role": "user"}], "Go"):
        assert api.post("chat/completions", messages=messages).status_code == 400
    asked = {"messages": [{"role": "user", "content": "{{ 7 * 7 }}"}], "max_tokens": 1}
    assert api.post("chat/completions", **asked).status_code == 200  # a text like any other


def test_strangers_are_refused_in_openai_s_form_and_get_is_not_offered(api):
    answer = api.client.post("http://local/v1/completions", json={}, headers={"Authorization": "Bearer x"})
    assert answer.status_code == 401 and answer.json()["error"]["code"] == "invalid_api_key"
    assert api.client.get("http://local/v1/completions", headers=api.key()).status_code == 405
