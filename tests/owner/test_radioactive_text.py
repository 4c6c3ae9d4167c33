"""The owner's test of a suspect's own texts. Claims show that students write such ones."""

import numpy as np
import pytest

from defenses.watermarks.green_list import green
from owner.radioactive_text import RadioactiveText
from tests.completing import oracle
from tests.tiny_language import tiny
from wire import BadInput
from wire.completions import Completed, Completion, CompletionOracle, TokenUsage

KEY = bytes(range(32))
PROOF = RadioactiveText(tokens=300, length=20, at_once=16)
SIGNS = [tiny().tokens.encode(sign)[0] for sign in "0123456789#$%+=*/<>?"]


def suspect(share):
    """A suspect that writes twenty tokens, of which the next is a green one in a share of the cases."""
    likely = {i: [j for j in SIGNS if green(KEY, i, 300, 0.25)[j]] or SIGNS for i in SIGNS}

    def told(asked):
        rng = np.random.default_rng(asked[1].seed)
        texts = [[int(rng.choice(SIGNS))] for _ in range(asked[1].n)]
        for text in texts:
            while len(text) < asked[1].max_tokens:
                text.append(int(rng.choice(likely[text[-1]] if rng.random() < share else SIGNS)))
        completions = [Completion(tiny().tokens.decode(text)) for text in texts]
        return Completed([completions], TokenUsage(0, sum(map(len, texts))))

    return CompletionOracle(told, "suspect")


def test_a_suspect_that_writes_green_tokens_is_told_and_another_is_not():
    marked, bare = (
        PROOF.accuse(suspect(share), tiny().tokens, KEY, np.random.default_rng(0)) for share in (0.5, 0.0)
    )
    assert marked.found.z > 4 and marked.found.p < 1e-4
    assert abs(bare.found.z) < 3.5
    for each in (marked, bare):
        assert len(each.wrong) == 20 and np.mean([abs(wrong.z) for wrong in each.wrong]) < 2.5
        assert 300 <= each.tokens < 300 + 16 * 20 and each.found.pairs < each.tokens


def test_a_suspect_that_says_nothing_is_not_accused():
    with pytest.raises(BadInput, match="no text has two tokens"):
        PROOF.accuse(oracle(tiny(), budget=0), tiny().tokens, KEY, np.random.default_rng(0))
    with pytest.raises(BadInput, match="gamma lie between"):
        RadioactiveText(gamma=1)
