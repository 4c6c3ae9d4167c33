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

ATTACK = Imitation(sentences=400, longest=60, length=16, at_once=32, epochs=5, batch=10, lr=1e-2, **vars(SMALL_PAIR))


def test_an_imitation_says_what_its_victim_says():
    thief, texts = oracle(translator()), sources(450, 7)
    copy = ATTACK.steal(thief, texts, np.random.default_rng(0))
    assert thief.completions == 400 and thief.spent.completion > 400
    new = sources(60, 8)
    said, told = likeliest(translator(), new, 16), likeliest(copy, new, 16)
    assert np.mean([one == other for one, other in zip(said, told, strict=True)]) > 0.3


def test_long_texts_are_not_sent_and_those_that_the_victim_refuses_are_left_out():
    texts = ["go forth", "here " * 12, "tell " * 11, "king", "servant"]
    thief = oracle(translator())
    pairs = ATTACK.bought(thief, texts)
    assert [sides(pair)[0] for pair in pairs] == ["go forth", "king", "servant"]
    assert ATTACK.bought(oracle(translator(), budget=40), texts * 9)[:1] == pairs[:1]


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


def test_flips_disturb_a_translation_and_leave_all_other_tokens():
    texts = ["here go forth", "here king tell", "tell servant here"]
    model, attack = translator(), Flips(flips=1, candidates=4, length=16)
    for flipped in (attack.disturbed(model, texts), attack.at_random(model, texts, np.random.default_rng(0))):
        for before, after in zip(texts, flipped, strict=True):
            old, new = (model.tokens.encode(text) for text in (before, after))
            assert sum(one != other for one, other in zip(old, new, strict=True)) <= 1
    said = likeliest(model, texts, 16)
    changed = likeliest(model, attack.disturbed(model, texts), 16)
    assert sum(one != other for one, other in zip(said, changed, strict=True)) >= 2


def test_the_flip_that_is_chosen_raises_the_loss_most_among_those_tried():
    model, text = translator(), "here go forth"
    (answer,) = likeliest(model, [text], 16)

    def loss(text):
        return -model.log_likelihoods(f"{text}\t{answer}").mean()

    (flipped,) = Flips(flips=1, candidates=1000, length=16).disturbed(model, [text])
    one_flip = [
        " ".join([*text.split()[:at], word, *text.split()[at + 1 :]])
        for at in (1, 2)
        for word in ("king", "servant", "tell", "here")
    ]
    assert loss(flipped) >= max(map(loss, one_flip)) - 1e-4


def test_impossible_sizes_are_refused():
    for wrong in ({"sentences": 0}, {"length": 0}):
        with pytest.raises(BadInput, match="at least 1"):
            Imitation(**wrong)
    with pytest.raises(BadInput, match="at least 1"):
        Flips(flips=0)
