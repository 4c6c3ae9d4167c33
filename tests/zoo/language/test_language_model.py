"""Language models: learnt alike from a seed, saved, and read with care."""

import json
import lzma

import numpy as np
import pytest
import torch

from cli.__main__ import main as mlaas_range
from wire import BadInput
from zoo.data import Missing, load
from zoo.data.pool import Pool, texts
from zoo.language.canaries import Canaries
from zoo.language.gpt import Gpt
from zoo.language.model import LanguageModel, is_language
from zoo.language.recipe import LANGUAGE, LanguageRecipe
from zoo.training import Training

SMALL = Gpt(vocabulary=300, context=24, layers=1, heads=2, width=8)
QUICK = LanguageRecipe("kjv", SMALL, Training(epochs=1, batch=8, lr=1e-2))


def test_it_learns_and_the_same_seed_learns_the_same(tiny, sentences):
    nothing = LanguageModel.untrained(tiny.gpt, tiny.tokens, seed=0)
    assert nothing.perplexity(sentences[:20]) > 250  # of 300 tokens
    assert tiny.perplexity(sentences[:20]) < 60
    # Both here: torch's number of threads may differ from that when the fixture was made.
    one, two = (LanguageModel.learnt(sentences, tiny.gpt, QUICK.training, seed=0).decoder for _ in range(2))
    assert all(map(torch.equal, one.state_dict().values(), two.state_dict().values()))


def test_likelihoods_are_those_of_the_tokens_and_the_end(tiny):
    text = "The king said unto them."
    ids = tiny.tokens.encode(text)
    told = tiny.log_likelihoods(text)
    assert len(told) == len(ids) + 1
    with torch.inference_mode():
        scores = tiny.decoder(torch.tensor([[0, *ids]]))[0].log_softmax(1).numpy()
    assert np.allclose(told, scores[np.arange(len(told)), [*ids, 0]], atol=1e-5)


def test_a_folder_keeps_it(tiny, tmp_path):
    tiny.save(tmp_path, seed=3)
    again = LanguageModel.load(tmp_path)
    assert np.array_equal(again.log_likelihoods("Go forth."), tiny.log_likelihoods("Go forth."))
    assert again.training == tiny.training and is_language(tmp_path)
    assert json.loads((tmp_path / "card.json").read_text())["about"] == {"seed": 3}


def rewritten(folder, **fields):
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, **fields}))


@pytest.mark.parametrize(
    ("break_it", "fault"),
    [
        (lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json: No such file"),
        (lambda f: (f / "tokenizer.json").write_bytes(b" " * (2**22 + 1)), "more than 4,194,304 bytes"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "SHA-256"),
        (lambda f: (f / "weights.safetensors").write_bytes(b"x"), "SHA-256"),
        (lambda f: rewritten(f, family="mlp"), "card.json"),
        (lambda f: rewritten(f, fields={"width": 16}), '"fields" must have'),
        (lambda f: rewritten(f, fields={**vars(SMALL), "layers": 10**9}), "weights; expected at most"),
        (lambda f: rewritten(f, fields={**vars(SMALL), "width": 32, "layers": 2}), "takes"),
    ],
)
def test_a_broken_folder_is_refused(tiny, tmp_path, break_it, fault):
    tiny.save(tmp_path)
    break_it(tmp_path)
    with pytest.raises(BadInput, match=fault) as caught:
        LanguageModel.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_too_few_texts_are_refused(sentences):
    with pytest.raises(BadInput, match="give more texts"):
        LanguageModel.learnt(["ab"], SMALL, Training(), seed=0)
    numbers = Pool(np.zeros((3, 2), np.float32), np.zeros(3, np.int64), ("a",))
    with pytest.raises(BadInput, match="rows are numbers"):
        QUICK.make(numbers, None, seed=0)


def test_canaries_are_planted_as_often_as_said_and_by_their_seed(sentences):
    canaries = Canaries(repeats=(1, 0, 3), digits=4)
    planted, secrets = canaries.planted(sentences, 7), canaries.drawn(7)
    assert [planted.count(secret) for secret in secrets] == [1, 0, 3]
    assert [text for text in planted if text not in secrets] == sentences
    assert planted == canaries.planted(sentences, 7) and secrets != canaries.drawn(8)
    assert max(map(planted.index, (secrets[0], secrets[2]))) < len(sentences) + 4
    assert secrets[0].startswith("The number of the seal of Aaron is ") and secrets[0].count(" ") == 11


def test_the_cache_trains_once_for_a_seed(sentences, tmp_path):
    pool = Pool(texts(sentences), np.zeros(len(sentences), np.int64), ("a",))
    first = QUICK.kept(pool, tmp_path, seed=0)
    stamp = (first / "card.json").stat().st_mtime_ns
    assert QUICK.kept(pool, tmp_path, seed=0) == first and (first / "card.json").stat().st_mtime_ns == stamp
    assert QUICK.kept(pool, tmp_path, seed=1) != first


def test_the_recipe_s_model_has_about_a_million_parameters():
    gpt = LANGUAGE["kjv-lm"].gpt
    weights = sum(p.numel() for p in LanguageModel.untrained(gpt, _Many(), seed=0).decoder.parameters())
    assert 0.7e6 < weights < 1.2e6 and (gpt.vocabulary, gpt.context) == (2048, 128)


class _Many:
    def __len__(self):
        return 2048


def test_texts_are_read_from_files_or_a_table(tmp_path):
    with pytest.raises(Missing, match="apt-get install sword-text-kjv") as missed:
        load("kjv", tmp_path, tmp_path)
    assert "\n" not in str(missed.value)
    (tmp_path / "kjv_web.tsv.xz").write_bytes(lzma.compress(b"In the beginning\tAt first\n\nAnd\tThen\n"))
    assert load("kjv", tmp_path, tmp_path).pool.x.tolist() == ["In the beginning", "And"]
    (tmp_path / "kjv").mkdir()
    (tmp_path / "kjv" / "b.txt").write_text("$$$Genesis 1:1\nIn  the\n\n$$$Genesis 1:2\n  \n")
    (tmp_path / "kjv" / "a.txt").write_text("first\nsecond\n")
    found = load("kjv", tmp_path, tmp_path).pool
    assert found.x.tolist() == ["first", "second", "In the"]
    assert found.y.tolist() == [0, 0, 1] and found.class_names == ("a.txt", "b.txt")
    (tmp_path / "kjv" / "a.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match="UTF-8"):
        load("kjv", tmp_path, tmp_path)


def test_the_command_trains_it_and_shows_its_card(sentences, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MLAAS_STATE", str(tmp_path / "state"))
    monkeypatch.setitem(LANGUAGE, "kjv-lm", QUICK)
    (tmp_path / "kjv").mkdir()
    (tmp_path / "kjv" / "mine.txt").write_text("\n".join(7 * sentences))
    mlaas_range(["train", "kjv-lm", "--seed", "2", "--data", str(tmp_path), "--out", str(tmp_path / "lm")])
    assert "perplexity of a token" in capsys.readouterr().out
    mlaas_range(["train", "card", str(tmp_path / "lm")])
    card = json.loads(capsys.readouterr().out)
    assert card["about"] == {"seed": 2, "rows": 400, "canaries": QUICK.canaries.drawn(2)}
