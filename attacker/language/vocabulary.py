"""The number and the names of a language model's tokens, inferred from its API."""

from __future__ import annotations

from wire import BadInput, Refused
from wire.completions import CompletionOracle, Decoding

MOST = 2**20  # tokens
NAMED = 64  # tokens of one echoed prompt


def size(oracle: CompletionOracle) -> int:
    """Returns the number of tokens: a bias of a token that does not exist is refused, and refusals are free.

    About twenty requests are not refused; each costs a prompt of one token and its completion.

    Raises:
        Refused: The server refuses every bias.
        BadInput: It takes the bias of any token.
    """
    low, high = 0, 1
    if (refused := _refused(oracle, 0)) is not None:
        raise refused
    while _refused(oracle, high) is None:
        low, high = high, 2 * high
        if high > MOST:
            raise BadInput(f"the API takes the bias of any token, up to {MOST} and more")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _refused(oracle, middle) is None else (low, middle)
    return high


def _refused(oracle: CompletionOracle, token: int) -> Refused | None:
    """Returns why the bias of a token is refused, as opposed to everything else that could be."""
    try:
        oracle.complete(["a"], Decoding(1, temperature=0, logit_bias={token: 1.0}))
    except Refused as refused:
        if refused.status != 400:
            raise
        return refused
    return None


def names(oracle: CompletionOracle, count: int) -> list[str]:
    """Returns the names of all tokens, from an echo of prompts that are given as tokens.

    Raises:
        Refused: The API does not echo.
    """
    long = NAMED
    while True:
        prompts = [range(at, min(at + long, count)) for at in range(0, count, long)]
        try:
            told = oracle.complete(prompts, Decoding(0, logprobs=0, echo=True))
        except Refused as refused:
            if refused.status != 400 or long == 1:
                raise
            long //= 2  # the context may be short
        else:
            return [name for (one,) in told for name in one.tokens]


def logprobs(oracle: CompletionOracle) -> int:
    """Returns how many log-probabilities per position the API really discloses, from 0 to ``oracle.top``."""
    for many in range(oracle.top, 0, -1):
        try:
            ((one,),) = oracle.complete(["a"], Decoding(1, temperature=0, logprobs=many))
            return len(one.top[0]) if one.top else 0
        except Refused as refused:
            if refused.status not in (400, 403):
                raise
    return 0


def forced(oracle: CompletionOracle, token: int, bias: float) -> str:
    """Returns the text that a token stands for, by a bias that makes it the likeliest."""
    ((one,),) = oracle.complete(["a"], Decoding(1, temperature=0, logit_bias={token: bias}))
    return one.text
