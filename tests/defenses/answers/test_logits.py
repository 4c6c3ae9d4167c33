"""Defences of a language model's logits: what each refuses or changes, and what it leaves alone."""

from itertools import chain

import numpy as np
import pytest

from defenses import (
    GENERATION,
    BiasXorLogprobs,
    LogitNoise,
    LogprobRounding,
    NoEcho,
    NoLogprobs,
    Offer,
    Stage,
    TemperatureFloor,
    TopLogprobs,
)
from tests.generating import ask, bound
from tests.tiny_language import tiny
from wire import BadInput, Refused

V = 300
OFFER = Offer(V, 24)


@pytest.fixture
def prompts():
    return [tiny().tokens.encode(text) for text in ("The king said", "Go forth")]


def plain(prompts, **sampling):
    return ask(tiny(), [], prompts, **sampling)


@pytest.mark.parametrize(
    ("defense", "refused", "passed"),
    [
        (TopLogprobs(3), {"logprobs": 4}, {"logprobs": 3}),
        (TopLogprobs(0), {"logprobs": 1}, {"logprobs": 0}),
        (NoLogprobs(), {"logprobs": 0}, {"logit_bias": {4: 1.0}}),
        (BiasXorLogprobs(), {"logprobs": 0, "logit_bias": {4: 1.0}}, {"logprobs": 5}),
        (BiasXorLogprobs(), {"logprobs": 2, "logit_bias": {4: 0.0}}, {"logit_bias": {4: 1.0}}),
        (NoEcho(), {"echo": True}, {"logprobs": 5}),
    ],
)
def test_what_is_refused_and_what_passes_unchanged(defense, refused, passed, prompts):
    with pytest.raises(Refused) as caught:
        ask(tiny(), bound(defense), prompts, **refused)
    assert caught.value.status == 400
    assert ask(tiny(), bound(defense), prompts, **passed) == plain(prompts, **passed)


def test_rounded_log_probabilities_are_near_and_the_text_is_the_same(prompts):
    before = plain(prompts, logprobs=3, echo=True)
    after = ask(tiny(), bound(LogprobRounding(2)), prompts, logprobs=3, echo=True)
    for exact, rounded in zip(chain(*before), chain(*after), strict=True):
        assert (rounded.token, rounded.finish) == (exact.token, exact.finish)
        if exact.logprob is None:
            assert rounded == exact
            continue
        assert rounded.logprob == round(exact.logprob, 2)
        assert [(t, round(value, 2)) for t, value in exact.top] == list(rounded.top)
    assert any(one.logprob != other.logprob for one, other in zip(before[0], after[0], strict=True))


def full(layers, prompts, **sampling):
    """All log-probabilities after each prompt, ``(n, v)``."""
    told = ask(tiny(), layers, prompts, max_tokens=1, temperature=0, logprobs=V, **sampling)
    return np.array([[dict(one[0].top)[token] for token in range(V)] for one in told])


def test_noise_has_its_deviation_and_is_the_same_for_the_same_text(prompts):
    layers = bound(LogitNoise(0.5))
    exact, noisy = full([], prompts), full(layers, prompts)
    added = noisy - exact
    added -= added.mean(axis=1, keepdims=True)  # the softmax moves all of a row alike
    assert added.std() == pytest.approx(0.5, rel=0.1)
    assert abs(np.corrcoef(added)[0, 1]) < 0.2
    np.testing.assert_array_equal(full(layers, prompts), noisy)
    assert np.abs(full(bound(LogitNoise(0.5), secret=b"l" * 32), prompts) - noisy).max() > 0.5
    biased = full(layers, prompts, logit_bias={7: 2.0})  # a bias tells nothing more of it
    moved = biased - noisy
    np.testing.assert_allclose(moved[:, 7] - moved[:, 9], 2, atol=1e-9)
    np.testing.assert_allclose(np.delete(moved, 7, 1), moved[:, 9:10].repeat(V - 1, 1), atol=1e-9)


def test_an_echo_tells_the_likelihoods_with_the_same_noise(prompts):
    layers, (ids, _) = bound(LogitNoise(0.5)), prompts
    (echoed,) = ask(tiny(), layers, [ids], echo=True, max_tokens=0, logprobs=0)
    for n in range(1, len(ids)):
        assert echoed[n].logprob == pytest.approx(full(layers, [ids[:n]])[0][ids[n]], abs=1e-4)
    assert [one.logprob for one in echoed] != [
        one.logprob for one in plain([ids], echo=True, max_tokens=0, logprobs=0)[0]
    ]


def test_below_the_floor_nothing_is_certain_any_more(prompts):
    certain = {str(plain(prompts[:1], seed=seed, temperature=0)) for seed in range(5)}
    layers = bound(TemperatureFloor(1.5))
    drawn = {str(ask(tiny(), layers, prompts[:1], seed=seed, temperature=0, top_p=1e-9)) for seed in range(5)}
    assert len(certain) == 1 and len(drawn) == 5
    high = {"temperature": 1.8, "top_p": 0.95, "seed": 3}
    assert ask(tiny(), layers, prompts, **high) == plain(prompts, **high)


def test_an_offer_tells_what_the_layers_leave():
    stack = [TopLogprobs(4), NoEcho(), LogprobRounding(3), LogitNoise(0.1), TemperatureFloor(0.5)]
    offer = OFFER
    for defense in (*stack, BiasXorLogprobs(), TopLogprobs(7), LogprobRounding(5)):
        offer = defense.disclose(offer)
    assert offer == Offer(V, 24, 4, 3, False, False, 0.5, 0.9, False)
    assert TopLogprobs(2).disclose(NoLogprobs().disclose(OFFER)).logprobs is None


@pytest.mark.parametrize("kind", GENERATION)
def test_every_layer_of_language_models_has_a_stage(kind):
    assert isinstance(GENERATION[kind].stage, Stage)


@pytest.mark.parametrize(
    "make",
    [
        lambda: TopLogprobs(-1),
        lambda: LogprobRounding(13),
        lambda: LogitNoise(0),
        lambda: LogitNoise(float("nan")),
        lambda: TemperatureFloor(0),
        lambda: TemperatureFloor(1, 0),
    ],
)
def test_impossible_values_are_refused(make):
    with pytest.raises(BadInput):
        make()
