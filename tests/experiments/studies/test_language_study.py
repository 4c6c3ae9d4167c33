"""The study of a language model, at tiny sizes."""

import numpy as np

from experiments.studies.language import KEYS, Language, keys, table
from tests.tiny_language import SMALL, WORDS
from zoo.language.canaries import Canaries
from zoo.language.recipe import LANGUAGE, LanguageRecipe
from zoo.training import Training


def test_the_model_stands_beside_its_baselines_and_the_mark_beside_wrong_keys(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    lines = [" ".join(rng.choice(WORDS, 8)) for _ in range(700)]
    (tmp_path / "kjv").mkdir()
    (tmp_path / "kjv" / "own.txt").write_text("\n".join(lines))
    small = LanguageRecipe("kjv", SMALL, Training(epochs=4, batch=8, lr=1e-2), Canaries((1, 2)))
    monkeypatch.setitem(LANGUAGE, "tiny", small)
    results = Language("tiny", tokens=300, deltas=(0.0, 4.0)).run([0], tmp_path, tmp_path / "cache")
    (found,) = results["models"].values()
    perplexity = found["perplexity"]
    assert perplexity["model"] < perplexity["unigram"] < 300 and perplexity["bigram"] < perplexity["unigram"]
    assert found["texts"] == 203 and found["training_cpu_seconds"] > 0
    assert found["mark"]["4.0"]["z"] > 4 > abs(found["mark"]["0.0"]["z"])
    assert found["mark"]["4.0"]["perplexity"] > found["mark"]["0.0"]["perplexity"]
    assert np.abs(found["mark"]["4.0"]["z_of_wrong_keys"]).mean() < 2
    assert "seed 0" in table(results)


def test_no_wrong_key_of_a_seed_is_its_own():
    for seed in range(200):
        own, others = keys(seed)
        assert len({own, *others}) == 1 + KEYS
