"""The width and output matrix of models whose width is drawn by the test."""

from functools import cache

import numpy as np
import pytest

from attacker.asking import NothingAnswered
from attacker.language.output_layer import OutputLayer
from attacker.language.rank import above_noise
from attacker.language.vocabulary import logprobs, names, size
from experiments.metrics import affine_error
from tests.completing import oracle
from tests.tiny_language import sentences
from wire import BadInput, Refused
from zoo.language.gpt import Gpt
from zoo.language.model import LanguageModel
from zoo.training import Training


@cache
def secret(seed):
    width = 2 * int(np.random.default_rng(seed).integers(3, 11))
    training = Training(epochs=3, batch=8, lr=1e-2)
    return LanguageModel.learnt(sentences(), Gpt(300, 24, 2, 2, width), training, seed=seed)


def shown(model, names):
    """The part of the output matrix that logits show, for tokens by name."""
    gain = model.decoder.ln_f.weight.detach().numpy().astype(float)
    matrix = model.decoder.wte.weight.detach().numpy() * gain
    ids = {model.tokens.name(token): token for token in range(len(model.tokens))}
    return (matrix - matrix.mean(axis=1, keepdims=True))[[ids[name] for name in names]]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("top", "most"), [(300, 80), (20, 240), (5, 830), (0, 3100)])
def test_the_width_is_exact_and_the_matrix_nearly(seed, top, most):
    thief = oracle(secret(seed), top=top)
    found = OutputLayer(prompts=60, tokens=50).steal(thief, np.random.default_rng(seed))
    assert found.width == secret(seed).gpt.width and found.rank == found.width - 1
    assert len(set(found.names)) == len(found.matrix) > (40 if top == 0 else 48)
    assert affine_error(found.matrix, shown(secret(seed), found.names)) < 1e-4
    assert affine_error(found.matrix, shown(secret(seed), found.names[::-1])) > 0.2  # of other tokens
    assert thief.completions < most and thief.spent.completion == thief.completions


def test_the_text_alone_suffices():
    model = LanguageModel.learnt(sentences(), Gpt(300, 24, 1, 2, 6), Training(3, batch=8, lr=1e-2), seed=3)
    thief = oracle(model, top=0)
    attack = OutputLayer(prompts=16, tokens=16, answers="label", bias=20, precision=1e-4)
    found = attack.steal(thief, np.random.default_rng(1))
    assert found.width == 6
    assert affine_error(found.matrix, shown(model, found.names)) < 0.01
    bits = np.ceil(np.log2(20 / attack.precision))
    assert thief.completions <= 16 * 15 * bits + 300


def test_an_api_that_answers_at_random_has_no_width():
    rng = np.random.default_rng(0)

    def lies(told):
        return [one._replace(top=tuple((token, float(rng.normal())) for token, _ in one.top)) for one in told]

    found = OutputLayer(prompts=60, tokens=50).steal(oracle(secret(0), top=20, change=lies), rng)
    assert found.width is found.rank is found.matrix is None and len(found.singular) == 49


def test_the_rank_of_a_matrix_with_noise_is_found_and_none_where_there_is_only_noise():
    rng = np.random.default_rng(0)
    for p, t, rank in ((40, 40, 7), (160, 120, 60), (50, 400, 1), (60, 60, 30)):
        values = rng.standard_normal((p, rank)) @ rng.standard_normal((rank, t))
        s = np.linalg.svd(values + 0.01 * rng.standard_normal((p, t)))[1]
        assert above_noise(s, p, t) == rank
        assert above_noise(np.linalg.svd(values)[1], p, t) == rank  # nothing but rounding
        assert above_noise(np.linalg.svd(rng.standard_normal((p, t)))[1], p, t) is None


def test_a_great_mean_is_no_rank_of_one():
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((60, 8)) @ rng.standard_normal((8, 51)) + 1000 * rng.standard_normal(51)
    logits += 1e-3 * rng.standard_normal(logits.shape)
    found = OutputLayer(normalisation="rms").taken_apart([str(i) for i in range(50)], [logits])
    assert found.rank == found.width == 8


def test_what_was_answered_before_a_budget_ended_is_used():
    model = secret(0)
    whole = oracle(model)
    OutputLayer(prompts=60, tokens=120).steal(whole, np.random.default_rng(0))
    thief = oracle(model, budget=int(0.75 * whole.spent.total), texts=1)
    found = OutputLayer(prompts=60, tokens=120).steal(thief, np.random.default_rng(0))
    assert found.width == model.gpt.width and 49 < len(found.names) < 119
    with pytest.raises(NothingAnswered, match="fewer than 4 prompts"):
        OutputLayer(prompts=60).steal(oracle(model, budget=500, texts=1), np.random.default_rng(0))


def test_an_api_tells_its_vocabulary():
    model = secret(0)
    thief = oracle(model, top=3)
    assert size(thief) == 300 and thief.spent.total < 40
    assert names(thief, 300) == [model.tokens.name(token) for token in range(300)]
    assert logprobs(thief) == 3


def test_what_does_not_work_is_said():
    rng = np.random.default_rng(0)

    def others(told):  # whatever is lifted
        return [
            one._replace(top=tuple((int(token), -1.0) for token in rng.permutation(300)[: len(one.top)]))
            for one in told
        ]

    with pytest.raises(BadInput, match="a bias of 100 does not lift tokens over all others"):
        OutputLayer(prompts=10).steal(oracle(secret(0), change=others), rng)
    small = OutputLayer(prompts=60, tokens=50, bias=0.1, precision=0.01)
    assert small.steal(oracle(secret(0)), np.random.default_rng(0)).width == secret(0).gpt.width
    with pytest.raises(BadInput, match="at most 50"):
        OutputLayer(answers="label", bias=60)

    def refuses(asked):
        raise Refused("no logit_bias here", status=400)

    thief = oracle(secret(0))
    thief._transport = refuses
    with pytest.raises(Refused, match="no logit_bias"):
        OutputLayer().steal(thief, np.random.default_rng(0))
