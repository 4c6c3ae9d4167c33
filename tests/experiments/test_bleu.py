"""BLEU, beside figures of sacrebleu 2.6."""

import pytest

from experiments.bleu import bleu


@pytest.mark.parametrize(
    ("translation", "reference", "expected"),
    [
        ("a b c d", "a b c e", 59.46035575013605),
        ("x y z 1,000.5 w-3-4 (k) it's", "x y z 1,000.5 w-3-4 (k) it's so", 91.31007162822624),
        ("the the the the the", "the cat sat on the mat", 10.400597689005307),
        ("q w e r", "a s d f", 0),
        ("x", "x", 0),  # no run of four words
        ("In the beginning, God.", "In the beginning, God.", 100),
    ],
)
def test_it_is_sacrebleu_s(translation, reference, expected):
    assert bleu([translation], [reference]) == pytest.approx(expected)


def test_counts_are_of_all_translations_together():
    translations = ["the cat sat on a mat", "go forth now"]
    references = ["the cat sat on the mat", "go forth then and there"]
    assert bleu(translations, references) == pytest.approx(39.50746552083603)
