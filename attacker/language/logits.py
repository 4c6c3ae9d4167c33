"""Logits of single tokens, up to a constant of each request: by log-probabilities, or by the text alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from attacker.language.vocabulary import forced, logprobs
from wire import Array, BadInput
from wire.completions import CompletionOracle, Decoding

MOST_BIAS = 100.0  # the maximum in the protocol


def told(
    oracle: CompletionOracle, texts: Sequence[str], ids: Sequence[int], bias: float
) -> tuple[list[str], list[Array]]:
    """Asks for log-probabilities: in each request, of a few tokens that a bias raises above all others.

    If the API discloses only that of the drawn token, each token is asked about separately.

    Args:
        oracle: The victim.
        texts: The prompts, ``p`` of them.
        ids: The tokens; the first is the reference, which stands in every request.
        bias: The bias, which is increased until it suffices.

    Returns:
        The names of the other tokens, and the logits of each request, ``(p, 1 + k)``, the reference's first: as
        far as the victim answers.

    Raises:
        BadInput: No bias raises the tokens above all others.
    """
    few = logprobs(oracle) - 1
    if few < 1:
        return _chosen(oracle, texts, ids, bias)
    reference, *others = ids
    names: list[str] = []
    parts: list[Array] = []
    anchor = None
    for part in np.array_split(others, -(-len(others) // few)):
        while (tops := _tops(oracle, texts, [reference, *part.tolist()], bias)) is None:
            if bias >= MOST_BIAS:
                raise BadInput(f"a bias of {bias:g} does not lift tokens over all others")
            bias = min(1.5 * bias, MOST_BIAS)
        if len(tops) < len(texts):
            break
        same = set(tops[0])
        anchor = anchor or next(iter(_named(oracle, reference, bias) & same))
        names += (mine := sorted(same - {anchor}))
        parts.append(np.array([[top[name] for name in (anchor, *mine)] for top in tops]))
    return names, parts


def _tops(
    oracle: CompletionOracle, texts: Sequence[str], tokens: Sequence[int], bias: float
) -> list[Mapping[str, float]] | None:
    """Returns the log-probabilities of biased tokens, by name; None if the bias does not suffice for all."""
    asked = Decoding(1, temperature=0, logprobs=len(tokens), logit_bias=dict.fromkeys(tokens, bias))
    tops = [one.top[0] for (one,) in oracle.collect(texts, asked)]
    same = set(tops[0]) if tops else set()
    lifted = all(set(top) == same for top in tops) and len(same) == (len(tokens) if tops else 0)
    return tops if lifted else None


def _chosen(
    oracle: CompletionOracle, texts: Sequence[str], ids: Sequence[int], bias: float
) -> tuple[list[str], list[Array]]:
    """Asks for the log-probability of one token at a time, which the bias makes the likeliest.

    Of a token with probability q, a bias b makes the odds e^b q / (1 - q), as in the attack by one log-probability
    of the paper that :mod:`~attacker.language.output_layer` names.
    """
    names: list[str] = []
    columns: list[Array] = []
    for token in ids:
        lifted = Decoding(1, temperature=0, logprobs=0, logit_bias={token: bias})
        answers = [one for (one,) in oracle.collect(texts, lifted)]
        if len(answers) < len(texts):
            break
        name = _named_drawn(oracle, token)
        if any(one.tokens != (name,) for one in answers):
            continue  # another token is likelier all the same
        told = np.array([one.logprobs[0] for one in answers], float)
        odds = told - np.log(np.maximum(-np.expm1(told), np.finfo(float).tiny)) - bias
        names.append(name)
        columns.append(odds - np.logaddexp(0, odds))
    return names[1:], [np.stack(columns, axis=1)] if columns else []


def _named_drawn(oracle: CompletionOracle, token: int) -> str:
    """Returns the name of a token that the greatest bias makes the likeliest."""
    asked = Decoding(1, temperature=0, logprobs=0, logit_bias={token: MOST_BIAS})
    ((one,),) = oracle.complete(["a"], asked)
    return one.tokens[0]


def _named(oracle: CompletionOracle, token: int, bias: float) -> set[str]:
    """Returns the name of a token: that of the likeliest where it alone is lifted."""
    ((one,),) = oracle.complete(["a"], Decoding(1, temperature=0, logprobs=1, logit_bias={token: bias}))
    return set(one.top[0])


def bisected(
    oracle: CompletionOracle, texts: Sequence[str], ids: Sequence[int], most: int, bias: float, precision: float
) -> tuple[list[str], list[Array]]:
    """Asks for the likeliest token alone: a token is chosen once its bias makes up for its logit.

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
        if len(known) < most and (text := forced(oracle, token, bias)):
            known.setdefault(text, token)
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
