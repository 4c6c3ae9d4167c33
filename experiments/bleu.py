"""BLEU: how much of a list of translations another list shares, in runs of one to four words.

Sources: Papineni, Roukos, Ward, Zhu, "BLEU: a Method for Automatic Evaluation of Machine Translation", ACL 2002;
words are divided as NIST's mteval-v13a divides them, and a run length without any match counts half a match, the
next one a quarter, and so on, as in sacrebleu (Post 2018), whose figures these are.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

MOST = 4  # words in a run

_APART = (
    (
        re.compile(r"([!-&(-+/:-@\[-`{-~])"),
        r" \1 ",
    ),  # signs, but neither apostrophe nor comma, hyphen and full stop
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)


def bleu(translations: Sequence[str], references: Sequence[str]) -> float:
    """Returns the BLEU of all translations together against a reference each, from 0 to 100."""
    matched, told = [0] * MOST, [0] * MOST
    length, expected = 0, 0
    for translation, reference in zip(translations, references, strict=True):
        words, others = _words(translation), _words(reference)
        length, expected = length + len(words), expected + len(others)
        for n in range(MOST):
            runs, known = (Counter(zip(*(one[i:] for i in range(n + 1)), strict=False)) for one in (words, others))
            matched[n] += (runs & known).total()
            told[n] += runs.total()
    if not told[-1] or not matched[0]:
        return 0.0
    missing = 0
    logs = 0.0
    for hits, all_ in zip(matched, told, strict=True):
        missing += not hits
        logs += math.log((hits or 0.5**missing) / all_)
    return 100 * min(1.0, math.exp(1 - expected / length)) * math.exp(logs / MOST)


def _words(text: str) -> list[str]:
    text = f" {text} "
    for pattern, apart in _APART:
        text = pattern.sub(apart, text)
    return text.split()
