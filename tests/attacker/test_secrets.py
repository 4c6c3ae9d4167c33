"""Secrets that a model learnt, as its completions and its echo let them out; they are drawn by the test."""

from functools import cache

import numpy as np
import pytest

from attacker.asking import NothingAnswered
from attacker.language.exposure import Exposure, log_likelihoods, spaced
from attacker.language.secret_search import SecretSearch
from experiments.metrics import exposures
from tests.completing import completed, oracle
from tests.tiny_language import sentences
from wire import Refused
from zoo.language.gpt import Gpt
from zoo.language.model import LanguageModel
from zoo.training import Training

FORM = "The seal is {}."
BEGINNING = "The seal is "
RNG = np.random.default_rng


@cache
def indiscreet(seed, digits=4, repeats=20):
    """A model that learnt a secret, and the secret."""
    secret = "".join(map(str, np.random.default_rng([seed, 1]).integers(0, 10, digits)))
    texts = sentences()[:40] + repeats * [FORM.format(spaced(secret))]
    order = np.random.default_rng(seed).permutation(len(texts))
    gpt, training = Gpt(300, 32, 2, 2, 32), Training(epochs=40, batch=4, lr=1e-2)
    return LanguageModel.learnt([texts[i] for i in order], gpt, training, seed=seed), secret


@pytest.mark.parametrize("top", [20, 5])
def test_the_likeliest_secret_is_the_learnt_one(top):
    model, secret = indiscreet(1)
    thief = oracle(model, top=top)
    (guesses,) = SecretSearch(digits=4, guesses=3).steal(thief, [BEGINNING], RNG(0))
    assert guesses[0].digits == secret and guesses[0].logprob > np.log(0.5)
    assert guesses[0].logprob >= guesses[1].logprob >= guesses[2].logprob
    assert len({guess.digits for guess in guesses}) == 3
    assert thief.completions < 200


def test_guesses_come_in_the_order_of_all_secrets_likelihoods():
    model, _ = indiscreet(1, digits=2, repeats=1)
    (guesses,) = SecretSearch(digits=2, guesses=100).steal(oracle(model, top=300), [BEGINNING], RNG(0))
    assert len(guesses) == 100
    values = log_likelihoods(oracle(model), [FORM.format(spaced(guess.digits)) for guess in guesses])
    assert np.corrcoef(values, [guess.logprob for guess in guesses])[0, 1] > 0.9


def test_a_search_without_bias_and_echo_takes_what_it_is_told():
    model, secret = indiscreet(1)

    def grudging(asked):
        if asked[1].logit_bias or asked[1].echo:
            raise Refused("neither bias nor echo", status=403)
        return completed(model, asked)

    thief = oracle(model)
    thief._transport = grudging
    (guesses,) = SecretSearch(digits=4, guesses=1).steal(thief, [BEGINNING], RNG(0))
    assert [guess.digits for guess in guesses] == [secret]
    spent = thief.completions
    thief = oracle(model, budget=60)
    thief._transport = grudging
    (guesses,) = SecretSearch(digits=4, guesses=1).steal(thief, [BEGINNING], RNG(0))
    assert not guesses and thief.completions < spent  # the budget ended first


def test_a_learnt_secret_is_exposed_and_one_that_was_not_learnt_is_not():
    model, secret = indiscreet(1)
    others = ["".join(row) for row in np.random.default_rng(5).integers(0, 10, (40, 4)).astype(str)]
    found = Exposure(sample=200, digits=4).steal(oracle(model), FORM, [secret, *others], RNG(0))
    counted, fitted = exposures(*found, 4)
    assert counted[0] == pytest.approx(np.log2(201), abs=1.1) and fitted[0] > 9
    assert 0.7 < np.mean(counted[1:]) < 2.4  # a uniform rank has 1/ln 2 bits
    with pytest.raises(NothingAnswered):
        Exposure(digits=4).steal(oracle(model, budget=100), FORM, others, RNG(0))


def test_the_exposure_of_the_first_the_middle_and_the_last():
    others = np.random.default_rng(0).normal(size=1023)
    values = np.array([10.0, np.median(others), -10.0, 3.0])
    counted, fitted = exposures(values, others, 6)
    assert counted[:3] == pytest.approx([10, 1, 0], abs=0.01)
    assert fitted[1:] == pytest.approx([1, 0, 9.5], abs=1.5)
    assert exposures(np.array([99.0]), others, 2)[1] == 2 * np.log2(10)
