"""Students of a language model."""

import numpy as np
import pytest
import torch

from attacker.asking import NothingAnswered
from attacker.language.distillation import Distillation, rest_as_one, windows
from experiments.languages import next_logprobs
from experiments.metrics import next_tokens
from tests.completing import oracle
from tests.tiny_language import sentences, tiny
from wire.completions import Completion

STUDENT = {
    "context": 24,
    "layers": 1,
    "heads": 2,
    "width": 16,
    "length": 20,
    "at_once": 16,
    "batch": 8,
    "lr": 1e-2,
}


@pytest.mark.parametrize("learns", ["text", "logprobs"])
def test_a_student_learns_what_its_teacher_says(learns):
    thief = oracle(tiny())
    attack = Distillation(tokens=3000, learns=learns, epochs=6, **STUDENT)
    student = attack.steal(thief, tiny().tokens, np.random.default_rng(0))
    assert 3000 <= thief.spent.completion < 3000 + 16 * 20 and thief.spent.prompt == 0
    untaught = Distillation(tokens=3000, learns=learns, epochs=0, **STUDENT)
    untaught = untaught.steal(oracle(tiny()), tiny().tokens, np.random.default_rng(0))
    assert student.perplexity(sentences()[:50]) < untaught.perplexity(sentences()[:50]) / 4
    teacher, own, none = (next_logprobs(one, sentences()[:30]) for one in (tiny(), student, untaught))
    worth, none = next_tokens(teacher, own), next_tokens(teacher, none)
    assert 0 < worth["divergence"] < none["divergence"] / 2 and 0 < worth["agreement"] < 1
    assert next_tokens(teacher, teacher) == {"agreement": 1, "divergence": 0}


def test_the_likeliest_tokens_stand_beside_each_token_that_was_told():
    name = tiny().tokens.name
    told = [
        Completion(
            "", (name(5), name(6)), (-1, -1), ({name(5): np.log(0.5), name(9): np.log(0.25)}, {name(6): 0.0})
        ),
        Completion("", (name(7), name(0)), (), ({name(7): 0.0}, {name(0): 0.0})),
        Completion("", (name(8),), (), ({name(8): 0.0},)),
    ]
    x, y = windows(told, tiny().tokens, 3)
    assert x.tolist() == [[0, 5, 6], [0, 7, 0]]
    assert y[0].tolist() == pytest.approx(np.array([[5, 9, 0.5, 0.25], [6, 0, 1, 0], [0, 0, 0, 0]]))
    assert y[1, :, 0].tolist() == [7, 0, 8]


def test_all_other_tokens_count_as_one():
    logits = torch.log(torch.tensor([[[0.4, 0.3, 0.2, 0.1], [0.25, 0.25, 0.25, 0.25]]]))
    targets = torch.tensor([[[0, 2, 0.5, 0.25], [0, 0, 0, 0]]], dtype=torch.float)
    expected = -(0.5 * np.log(0.4) + 0.25 * np.log(0.2) + 0.25 * np.log(1 - 0.6))
    assert rest_as_one(logits, targets).item() == pytest.approx(expected, abs=1e-5)


def test_too_little_is_said():
    attack = Distillation(tokens=4000, **STUDENT)
    with pytest.raises(NothingAnswered, match="no text was told: the next prompt may cost 20 tokens with 3 left"):
        attack.steal(oracle(tiny(), budget=3), tiny().tokens, np.random.default_rng(0))
    with pytest.raises(NothingAnswered, match="one window of 24 tokens"):
        attack.taught([Completion("Go")], tiny().tokens, seed=0)
