"""A translator behind the same API: its answers, its bill, and what it does not offer."""

import pytest
from speaking import Speaking

from tests.tiny_language import translator
from wire.local import local_client
from zoo.language.generation import likeliest

TEXT = "the here go forth"


@pytest.fixture
def api(speaking):
    translator().save(speaking.parent / "state" / "french")
    (speaking.parent / "kjv").unlink()
    (speaking.parent / "kjv").symlink_to("state/french")  # in the language model's place
    server = Speaking(speaking)
    with local_client(server.app) as server.client:
        yield server


def test_the_completion_of_a_text_is_its_translation_and_both_are_billed(api):
    answer = api.post(prompt=TEXT, max_tokens=16, temperature=0).json()
    (choice,) = answer["choices"]
    assert choice["text"] == likeliest(translator(), [TEXT], 16)[0] and choice["finish_reason"] == "stop"
    prompt, told = len(translator().tokens.encode(TEXT)), len(translator().tokens.encode(choice["text"])) + 1
    assert answer["usage"] == {"prompt_tokens": prompt, "completion_tokens": told, "total_tokens": prompt + told}
    assert api.billed()[:3] == (prompt, told, 1)


def test_a_chat_translates_too_and_texts_of_one_request_do_not_mix(api):
    texts = [TEXT, "the king", "the tell servant"]
    asked = api.post(prompt=texts, max_tokens=12, temperature=0, plan="free").json()
    assert [choice["text"] for choice in asked["choices"]] == likeliest(translator(), texts, 12)
    chat = api.post("chat/completions", messages=[{"role": "user", "content": TEXT}]).json()
    assert chat["choices"][0]["message"]["content"] == likeliest(translator(), [TEXT], 16)[0]


def test_a_translation_does_not_echo(api):
    refused = api.post(prompt=TEXT, echo=True)
    assert refused.status_code == 400 and "echo is not offered" in refused.json()["error"]["message"]
    assert api.billed() == (0, 0, 0, 0)
