"""Embeddings of texts: the mean of hidden states, billed by the token, and only where they are allowed."""

import base64

import numpy as np
import pytest
import torch
from speaking import CONFIG, Speaking

from tests.tiny_language import tiny
from wire import BadInput
from wire.local import local_client

ALLOWED = CONFIG.replace('folder = "kjv"\n', 'folder = "kjv"\nembeddings = true\n')
TEXTS = ["The king said", "Go forth"]
IDS = [tiny().tokens.encode(text) for text in TEXTS]
TOKENS = sum(map(len, IDS))


@pytest.fixture
def embedding(speaking):
    speaking.write_text(ALLOWED)
    server = Speaking(speaking)
    with local_client(server.app) as server.client:
        yield server


def embed(server, given, headers=None, **more):
    body = {"model": "kjv", "input": given, **more}
    own = {**server.key(), **(headers or {})}
    return server.client.post("http://local/v1/embeddings", json=body, headers=own)


@torch.inference_mode()
def expected():
    means = [tiny().decoder.states(torch.tensor([[0, *ids]]))[0].mean(0).numpy() for ids in IDS]
    return np.array([mean / np.linalg.norm(mean) for mean in means])


@pytest.mark.parametrize("given", [TEXTS, IDS])
def test_texts_and_tokens_are_embedded_and_billed_by_the_token(embedding, given):
    answer = embed(embedding, given).json()
    assert [one["index"] for one in answer["data"]] == [0, 1]
    np.testing.assert_allclose([one["embedding"] for one in answer["data"]], expected(), atol=1e-6)
    assert answer["usage"] == {"prompt_tokens": TOKENS, "total_tokens": TOKENS}
    assert embedding.billed() == (TOKENS, 0, 1, 100 * TOKENS + 10**6)
    assert embedding.statement()["rows_left"]["kjv/quota/day"] == 400 - TOKENS


def test_base64_holds_the_same_numbers(embedding):
    (one, _) = embed(embedding, TEXTS, encoding_format="base64").json()["data"]
    np.testing.assert_allclose(np.frombuffer(base64.b64decode(one["embedding"]), "<f4"), expected()[0], atol=1e-6)
    (alone,) = embed(embedding, TEXTS[0], encoding_format="base64").json()["data"]
    assert alone == one  # to the last bit, whatever stands beside it


def test_a_retry_under_its_key_is_billed_once(embedding):
    first, again = (embed(embedding, TEXTS, {"Idempotency-Key": "one"}).json() for _ in range(2))
    assert first == again and embedding.billed()[:3] == (TOKENS, 0, 1)


@pytest.mark.parametrize(
    ("given", "more", "status"),
    [
        ("", {}, 400),
        ([], {}, 400),
        (["a", 3], {}, 400),
        ([[300]], {}, 400),
        ([[]], {}, 400),
        ([5] * 24, {}, 400),
        ("x" * 9000, {}, 400),
        ([[5] * 20] * 12, {}, 413),
        ("a", {"dimensions": 3}, 400),
        ("a", {"encoding_format": "hex"}, 400),
        ("a", {"model": "net"}, 404),
    ],
)
def test_bad_requests_get_openai_s_error_and_no_bill(embedding, given, more, status):
    answer = embed(embedding, given, **more)
    assert answer.status_code == status and answer.json()["error"]["message"]
    assert embedding.billed() == (0, 0, 0, 0)


def test_without_the_setting_nothing_is_embedded(api, speaking):
    answer = embed(api, "a")
    assert answer.status_code == 404 and "does not embed" in answer.json()["error"]["message"]
    speaking.write_text(CONFIG.replace('folder = "net"\n', 'folder = "net"\nembeddings = true\n'))
    with pytest.raises(BadInput, match="embeddings = true is for language models"):
        Speaking(speaking)
