"""MiniLM's place: an encoder of texts behind ``/v1/embeddings``; a tiny graph stands in for its weights."""

import base64
import hashlib
import sys

import numpy as np
import pytest
import tokenizers
from onnx import TensorProto, helper, numpy_helper

from defenses import B4b, Quota
from server.inprocess import serve
from wire import BadInput, Malformed, Refused
from wire.http import Endpoint
from zoo import folder
from zoo.data.pool import Pool, texts
from zoo.families import minilm
from zoo.recipe import Recipe

WORDS = ["[UNK]", "[CLS]", "[SEP]", "a", "cat", "sat"]
TABLE = np.random.default_rng(0).normal(size=(len(WORDS), 384)).astype(np.float32)
TEXTS = texts(["a cat sat", "a cat", "sat"])
POOL = Pool(TEXTS, np.array([0, 1, 0]), ("no", "yes"))
PRICES = {"attacker": {"price_per_prompt_token": "0.000001", "price_per_row": "1"}}


def graph():
    names = ("input_ids", "attention_mask", "token_type_ids")
    given = [helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "t"]) for name in names]
    told = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["n", "t", 384])
    node = helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])
    made = helper.make_graph([node], "tiny", given, [told], [numpy_helper.from_array(TABLE, "table")])
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(made, opset_imports=opset, ir_version=9).SerializeToString()


def tokens():
    model = tokenizers.models.WordLevel({word: i for i, word in enumerate(WORDS)}, "[UNK]")
    made = tokenizers.Tokenizer(model)
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    made.enable_truncation(3)  # as the file of MiniLM does, to fewer tokens than it reads
    return made.to_str().encode()


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The packages, with other files in them."""
    files = {}
    for (name, (package, file, _)), content in zip(minilm.FILES.items(), (graph(), tokens()), strict=True):
        path = tmp_path / "packages" / package
        (path / file).parent.mkdir(parents=True)
        (path / "__init__.py").write_text("raise AssertionError('a package is not to be imported')")
        (path / file).write_bytes(content)
        files[name] = package, file, hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(minilm, "FILES", files)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "packages"), *sys.path])
    return tmp_path / "packages"


@pytest.fixture
def encoder(installed):
    return Recipe(minilm.Minilm()).train(POOL)


def expected(ids):
    mean = TABLE[[1, *ids, 2]].mean(axis=0)
    return mean / np.linalg.norm(mean)


def test_a_text_s_embedding_is_the_mean_of_its_states(encoder, tmp_path):
    told = encoder.predict(TEXTS)
    np.testing.assert_allclose(told, [expected([3, 4, 5]), expected([3, 4]), expected([5])], atol=1e-6)
    np.testing.assert_array_equal(encoder.predict(TEXTS[1:2]), told[1:2])
    assert encoder.tokens(TEXTS).tolist() == [5, 4, 3] and encoder.predict(TEXTS[:0]).shape == (0, 384)
    long = encoder.predict(texts(["cat " * 300]))
    np.testing.assert_allclose(long[0], expected([4] * 254), atol=1e-6)
    folder.save(encoder, tmp_path / "model")
    again = folder.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict(TEXTS), told)
    assert again.card() == encoder.card()


def test_only_the_known_files_are_run(encoder, installed, tmp_path, monkeypatch):
    folder.save(encoder, tmp_path / "model")
    package, file, _ = minilm.FILES["graph"]
    (installed / package / file).write_bytes(graph() + b" ")
    with pytest.raises(BadInput, match="not the file that is expected; pip install"):
        Recipe(minilm.Minilm()).train(POOL)
    monkeypatch.undo()  # the files of MiniLM are known again, and these are not they
    with pytest.raises(BadInput, match="nothing else is run"):
        folder.load(tmp_path / "model")


def test_what_is_missing_is_told_in_a_line(monkeypatch):
    monkeypatch.setattr(minilm, "FILES", {"graph": ("no_such_package_here", "model.onnx", "")})
    with pytest.raises(BadInput, match=r"MiniLM is not installed: pip install 'mlaas-range\[minilm,server\]'"):
        Recipe(minilm.Minilm()).train(POOL)


def test_embeddings_are_billed_by_the_token(encoder):
    with serve(encoder, defenses=[Quota(40, "day")], plans=PRICES, progress=False) as api:
        headers = {"Authorization": f"Bearer {api._key('attacker', 'attacker')}"}

        def ask(given, **more):
            body = {"model": "victim", "input": given, **more}
            key = str(hash((str(given), *more)))
            return api.client.post("/v1/embeddings", json=body, headers={**headers, "Idempotency-Key": key})

        first = ask(TEXTS.tolist()).json()
        np.testing.assert_allclose([one["embedding"] for one in first["data"]], encoder.predict(TEXTS), atol=1e-7)
        assert first["usage"] == {"prompt_tokens": 12, "total_tokens": 12}
        assert ask(TEXTS.tolist()).json() == first  # a retry, billed once
        (packed,) = ask("sat", encoding_format="base64").json()["data"]
        numbers = np.frombuffer(base64.b64decode(packed["embedding"]), "<f4")
        np.testing.assert_allclose(numbers, expected([5]), atol=1e-7)
        for given, fault in (
            ([3, 4], "takes texts, not tokens"),
            ("", "from 1 to 4096 characters, not 0"),
            ([], "expected 1 to 128"),
            ("a " * 300, "from 1 to 256 tokens, not 302"),
            ("a" * 4097, "characters, not 4097"),
        ):
            refused = ask(given)
            assert refused.status_code == 400 and fault in refused.json()["error"]["message"]
        assert ask("sat", dimensions=3).status_code == 400
        assert ask(["a cat " * 120] * 5).status_code == 413
        over = ask(["a cat sat"] * 6)  # 30 tokens, with 25 left
        assert over.status_code == 429 and "tokens" in over.json()["error"]["message"]
        statement = api.account()
        assert statement["tokens"]["victim"] == {"prompt_tokens": 15, "completion_tokens": 0}
        assert (statement["micro_cents"], statement["rows"]) == (1500, 0)
        assert list(statement["rows_left"].values()) == [25]


def test_rows_go_another_way_and_layers_protect_texts(encoder):
    with serve(encoder, defenses=[B4b(bits=4, transform="shuffle")], plans=PRICES, progress=False) as api:
        key = api._key("attacker", "attacker")
        endpoint = Endpoint("http://local", model="victim", key=key, client=api.client)
        assert (endpoint.card.embedding, endpoint.card.dtype) == (384, "BYTES")
        with pytest.raises((Malformed, Refused), match="ask POST /v1/embeddings"):
            endpoint(TEXTS)
        body = {"model": "victim", "input": TEXTS.tolist()}
        told = api.client.post("/v1/embeddings", json=body, headers={"Authorization": f"Bearer {key}"}).json()
        shuffled = np.array([one["embedding"] for one in told["data"]])
        plain = encoder.predict(TEXTS)
        assert np.abs(shuffled - plain).max() > 0.05
        np.testing.assert_allclose(shuffled @ shuffled.T, plain @ plain.T, atol=0.02)
