"""Imitations of a translator, and texts that disturb it."""

import numpy as np
import pytest

from attacker.asking import NothingAnswered
from attacker.language.flips import Flips
from attacker.language.imitation import Imitation
from tests.completing import oracle
from tests.tiny_language import SMALL_PAIR, sources, translator
from wire import BadInput, Refused
from zoo.language.generation import likeliest
from zoo.language.translator import sides

ATTACK = Imitation(
    sentences=400, longest=60, length=16, at_once=32, epochs=5, batch=10, lr=1e-2, **vars(SMALL_PAIR)
)


def test_an_imitation_says_what_its_victim_says():
    thief, texts = oracle(translator()), sources(450, 7)
    copy = ATTACK.steal(thief, texts, np.random.default_rng(0))
    assert thief.completions == 400 and thief.spent.completion > 400
    new = sources(60, 8)
    said, told = likeliest(translator(), new, 16), likeliest(copy, new, 16)
    assert np.mean([one == other for one, other in zip(said, told, strict=True)]) > 0.3


def test_long_texts_are_not_sent_and_those_that_the_victim_refuses_are_left_out():
    texts = ["the go forth", "the" + " here" * 14, "the" + " servant" * 7, "the king", "the servant"]
    pairs = ATTACK.bought(oracle(translator()), texts)
    assert [sides(pair)[0] for pair in pairs] == ["the go forth", "the king", "the servant"]
    with pytest.raises(Refused, match="longer than the context"):
        ATTACK.bought(oracle(translator()), texts[2:3])
    assert ATTACK.bought(oracle(translator(), budget=80), [texts[0], *texts[3:]])[:1] == pairs[:1]


def test_translations_that_were_cut_teach_nothing():
    short = Imitation(**{**vars(ATTACK), "length": 1})
    with pytest.raises(NothingAnswered, match="to its end"):
        short.steal(oracle(translator()), ["go forth here", "king tell"], np.random.default_rng(0))


def test_a_server_that_refuses_ends_the_purchase():
    def refusing(model):
        thief = oracle(model)
        answer = thief._transport

        def transport(asked):
            if thief.requests == 1:
                raise Refused("no more", status=403)
            return answer(asked)

        thief._transport = transport
        return thief

    pairs = ATTACK.bought(refusing(translator()), sources(200, 9))
    assert 0 < len(pairs) <= 32


def differing(one, other):
    return sum(a != b for a, b in zip(one.split(), other.split(), strict=True))


def test_flips_change_as_many_words_as_are_said_and_the_translation():
    texts, model = ["the here go forth", "the here king tell", "the tell servant here"], translator()
    attack = Flips(flips=1, candidates=4, length=16)
    flipped = attack.disturbed(model, texts)
    assert [differing(*both) for both in zip(texts, flipped, strict=True)] == [1, 1, 1]
    drawn = attack.at_random(model, texts, np.random.default_rng(0))
    assert {differing(*both) for both in zip(texts, drawn, strict=True)} <= {0, 1}
    said, changed = likeliest(model, texts, 16), likeliest(model, flipped, 16)
    assert sum(one != other for one, other in zip(said, changed, strict=True)) >= 2
    (twice,) = Flips(flips=2, candidates=4, length=16).disturbed(model, texts[:1])
    assert differing(texts[0], twice) == 2


def test_the_flip_that_is_chosen_is_the_worst_of_those_tried():
    model, text = translator(), "the here go forth"
    (answer,) = likeliest(model, [text], 16)

    def loss(changed):
        return -model.log_likelihoods(f"{changed}\t{answer}").mean()

    (flipped,) = Flips(flips=1, candidates=10_000, length=16).disturbed(model, [text])
    first, *words = text.split()
    others = ["go", "forth", "king", "here"]
    tried = [" ".join([first, *words[:at], word, *words[at + 1 :]]) for at in range(3) for word in others]
    assert loss(flipped) >= max(map(loss, tried)) - 1e-4


def test_impossible_sizes_are_refused():
    for wrong in ({"sentences": 0}, {"length": 0}):
        with pytest.raises(BadInput, match="at least 1"):
            Imitation(**wrong)
    with pytest.raises(BadInput, match="at least 1"):
        Flips(flips=0)
