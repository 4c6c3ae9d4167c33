"""Generation: each text is continued as if it were alone, and as its sampling says."""

import numpy as np
import pytest
import torch

from zoo.language.generation import Batch, Text
from zoo.language.sampling import Sampling, drawn

LONG = 12


def run(model, texts, slots=16, late=()):
    """Continues texts, which join after the given numbers of steps; returns the answers about each."""
    batch, told = Batch(model, slots), {text: [] for text in (*texts, *(text for _, text in late))}
    for text in texts:
        batch.join(text)
    steps = 0
    while len(batch) or any(after >= steps for after, _ in late):
        for after, text in late:
            if after == steps:
                batch.join(text)
        for text, tokens in batch.step():
            told[text] += tokens
        steps += 1
        assert steps < 200
    return list(told.values())


def texts(model, **sampling):
    prompts = ["The king", "Go forth and tell", "", "His servant said unto them go", "I am", "Before you the king"]
    return [
        Text(model.tokens.encode(prompt), Sampling(LONG, seed=i, logprobs=3, **sampling), owner=str(i % 2))
        for i, prompt in enumerate(prompts)
    ]


@torch.inference_mode()
def plain(model, text, length):
    """The log-probabilities of the likeliest continuation, without a cache."""
    ids, scores = [0, *text.prompt], []
    for _ in range(length):
        own = model.decoder(torch.tensor([ids]))[0, -1].double().log_softmax(0)
        ids.append(int(own.argmax()))
        scores.append(float(own.max()))
    return ids[1 + len(text.prompt) :], scores


def test_the_likeliest_tokens_are_those_of_a_plain_loop_without_a_cache(tiny):
    for text, told in zip(texts(tiny), run(tiny, texts(tiny, temperature=0)), strict=True):
        tokens, scores = plain(tiny, text, len(told))
        assert [one.token for one in told] == tokens
        assert np.allclose([one.logprob for one in told], scores, atol=1e-4)


@pytest.mark.parametrize("slots", [2, 16])
def test_alone_and_in_company_a_text_is_continued_alike(tiny, slots):
    alone = [run(tiny, [text])[0] for text in texts(tiny)]
    first, *others = texts(tiny)
    company = run(tiny, [first, *others[:2]], slots, late=[(1, others[2]), (3, others[3]), (7, others[4])])
    assert len({tuple(one.token for one in told) for told in alone}) == len(alone)
    for one, other in zip(alone, company, strict=True):
        assert [told.token for told in one] == [told.token for told in other]
        assert np.allclose([told.logprob for told in one], [told.logprob for told in other], atol=1e-4)
        assert [told.finish for told in one] == [told.finish for told in other]


def test_one_that_leaves_makes_room_and_changes_nothing_for_others(tiny):
    first, second = texts(tiny)[:2]
    batch, told = Batch(tiny, 1), []
    batch.join(first)
    batch.join(second)
    batch.step()
    first.left = True
    while len(batch):
        told += [one for text, tokens in batch.step() for one in tokens if text is second]
    (alone,) = run(tiny, texts(tiny)[1:2])
    assert [one.token for one in told] == [one.token for one in alone]
    assert len(first.ids) == len(first.prompt) + 2


def test_slots_are_shared_among_owners(tiny):
    greedy = [Text([5], Sampling(8, seed=i, logit_bias={0: -100.0}), owner="greedy") for i in range(6)]
    batch = Batch(tiny, 2)
    for text in greedy:
        batch.join(text)
    batch.step()
    late = Text([6], Sampling(1), owner="late")
    batch.join(late)
    while len(late.ids) == 2:
        batch.step()
    assert sum(len(text.ids) > 2 for text in greedy) == 3  # of two free slots, late got one


def test_a_text_ends_at_its_length_or_at_its_end(tiny):
    for told in run(tiny, texts(tiny)):
        assert len(told) == LONG or told[-1].token == 0
        assert told[-1].finish == ("stop" if told[-1].token == 0 else "length")
        assert {one.finish for one in told[:-1]} <= {None}
    (ended,) = run(tiny, [Text([5], Sampling(LONG, logit_bias={0: 100.0}))])
    assert [(one.token, one.finish) for one in ended] == [(0, "stop")]


def test_a_bias_moves_the_logits(tiny):
    (plain_one,) = run(tiny, [Text([5], Sampling(1, temperature=0, logprobs=300))])
    (biased,) = run(tiny, [Text([5], Sampling(1, temperature=0, logprobs=300, logit_bias={7: 3.0}))])
    before, after = dict(plain_one[0].top), dict(biased[0].top)
    assert after[7] - after[9] == pytest.approx(before[7] - before[9] + 3, abs=1e-5)
    assert np.exp(list(after.values())).sum() == pytest.approx(1)
    scores = [score for _, score in biased[0].top]
    assert scores == sorted(scores, reverse=True)


def test_a_prompt_is_echoed_with_its_likelihood(tiny):
    prompt = tiny.tokens.encode("The king said unto them.")
    (told,) = run(tiny, [Text(prompt, Sampling(0, logprobs=1, echo=True))])
    assert [one.token for one in told] == prompt
    assert told[0].logprob is None and told[-1].finish == "length"
    expected = tiny.log_likelihoods("The king said unto them.")[1:-1]
    assert np.allclose([one.logprob for one in told[1:]], expected, atol=1e-4)
    (longer,) = run(tiny, [Text(prompt, Sampling(2, logprobs=1, echo=True, temperature=0))])
    assert [one.token for one in longer[: len(prompt)]] == prompt and len(longer) == len(prompt) + 2


def test_draws_follow_the_probabilities_the_temperature_and_top_p():
    probs = np.array([0.1, 0.5, 0.15, 0.25])
    rng = np.random.default_rng(0)

    def shares(**how):
        found = [drawn(np.log(probs), rng=rng, **how) for _ in range(4000)]
        return np.bincount(found, minlength=4) / 4000

    assert np.allclose(shares(temperature=1, top_p=1), probs, atol=0.03)
    assert np.allclose(shares(temperature=0.5, top_p=1), probs**2 / (probs**2).sum(), atol=0.03)
    assert np.allclose(shares(temperature=1, top_p=0.6), [0, 2 / 3, 0, 1 / 3], atol=0.03)
    assert np.allclose(shares(temperature=1, top_p=1e-9), [0, 1, 0, 0])
    assert np.allclose(shares(temperature=0, top_p=1), [0, 1, 0, 0])
