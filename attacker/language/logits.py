"""Logits of single tokens, up to a constant of each request: by log-probabilities, or by the text alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from attacker.language.vocabulary import forced, logprobs
from wire import Array, BadInput
from wire.completions import CompletionOracle, Decoding


def told(
    oracle: CompletionOracle, texts: Sequence[str], ids: Sequence[int], bias: float
) -> tuple[list[str], list[Array]]:
    """Asks for log-probabilities: in each request, of a few tokens that the bias lifts over all others.

    Args:
        oracle: The victim.
        texts: The prompts, ``p`` of them.
        ids: The tokens; the first is the reference, which stands in every request.
        bias: The bias.

    Returns:
        The names of the other tokens, and the logits of each request, ``(p, 1 + k)``, the reference's first: as
        far as the victim answers.

    Raises:
        BadInput: The API tells fewer than two, or the bias is too small.
    """
    few = logprobs(oracle) - 1
    if few < 1:
        raise BadInput("the API tells fewer than two log-probabilities; expected answers = label")
    reference, *others = ids
    names: list[str] = []
    parts: list[Array] = []
    anchor = None
    for part in np.array_split(others, -(-len(others) // few)):
        lifted = dict.fromkeys((reference, *part.tolist()), bias)
        asked = Decoding(1, temperature=0, logprobs=len(lifted), logit_bias=lifted)
        tops = [one.top[0] for (one,) in oracle.collect(texts, asked)]
        if len(tops) < len(texts):
            break
        same = set(tops[0])
        if any(set(top) != same for top in tops) or len(same) != len(lifted):
            raise BadInput(f"a bias of {bias:g} does not lift tokens over all others; expected more")
        anchor = anchor or next(iter(_named(oracle, reference, bias) & same))
        names += (mine := sorted(same - {anchor}))
        parts.append(np.array([[top[name] for name in (anchor, *mine)] for top in tops]))
    return names, parts


def _named(oracle: CompletionOracle, token: int, bias: float) -> set[str]:
    """Returns the name of a token: that of the likeliest where it alone is lifted."""
    ((one,),) = oracle.complete(["a"], Decoding(1, temperature=0, logprobs=1, logit_bias={token: bias}))
    return set(one.top[0])


def bisected(
    oracle: CompletionOracle, texts: Sequence[str], ids: Sequence[int], most: int, bias: float, precision: float
) -> tuple[list[str], list[Array]]:
    """Asks for the likeliest token alone: one is told once its bias makes up for its logit.

    Args:
        oracle: The victim.
        texts: As in :func:`told`.
        ids: Tokens, of which those with a text of their own are taken; the first is the reference.
        most: How many tokens to take.
        bias: Bias of the reference; that of another token goes up to twice as much.
        precision: Greatest error of a logit.

    Returns:
        As :func:`told`, for a single part.
    """
    known: dict[str, int] = {}  # tokens that are no whole characters look alike
    for token in ids:
        if len(known) < most:
            known.setdefault(forced(oracle, token, bias), token)
    (anchor, reference), *others = known.items()

    def relative(text: str, token: int) -> float | None:
        low, high = 0.0, 2 * bias
        while high - low > 2 * precision:
            middle = (low + high) / 2
            asked = Decoding(1, temperature=0, logit_bias={reference: bias, token: middle})
            if not (answer := oracle.collect([text], asked)):
                return None
            low, high = (middle, high) if answer[0][0].text == anchor else (low, middle)
        return bias - (low + high) / 2

    rows: list[list[float]] = []
    for text in texts:
        row = [0.0]
        for _, token in others:
            if (value := relative(text, token)) is None:
                return [name for name, _ in others], [np.array(rows)] if rows else []
            row.append(value)
        rows.append(row)
    return [name for name, _ in others], [np.array(rows)]
