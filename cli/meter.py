"""A budget, a bill and a progress bar for an endpoint."""

from __future__ import annotations

import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, TypeVar

from tqdm import tqdm

from cli.money import in_currency
from wire.completions import CompletionOracle
from wire.http import Endpoint
from wire.openai import CompletionEndpoint
from wire.oracle import Oracle
from wire.patient import Patient

Wait = Callable[[float], object]
"""Waits for a number of seconds; a true result means that the wait was interrupted."""

Answered = Callable[[Oracle], None]
"""Is called with the oracle after every answered request."""


Tokens = Callable[[CompletionOracle], None]
"""The same, of a language model."""

Asked = TypeVar("Asked", Oracle, CompletionOracle)


@contextmanager
def metered(
    endpoint: Endpoint,
    opened: Callable[[Wait, Answered], Oracle] | None = None,
    *,
    budget: int | None = None,
    patience: float = 300.0,
    label: str = "",
) -> Iterator[Oracle]:
    """Opens an oracle with a progress bar on an endpoint, and closes the endpoint at the end.

    The bar shows rows and money spent. An interrupt (Ctrl-C, SIGTERM) ends the budget, so that the method
    finishes with the answers it has; a second one stops the command at once.

    Args:
        endpoint: The model.
        opened: Makes the oracle, if its rows do not travel through the endpoint alone.
        budget: Maximum number of rows to query; None for no limit.
        patience: Longest wait for one request, in seconds.
        label: Name of the progress bar; default: the model's name.
    """

    def alone(sleep: Wait, shown: Answered) -> Oracle:
        patient = Patient(endpoint, patience, sleep)
        return Oracle(patient, endpoint.card, budget, prices=endpoint.prices(), on_answer=shown)

    bar = _bar(budget, label or endpoint.model, "row")
    with closing(endpoint), bar, _meter(opened or alone, bar, lambda oracle: oracle.spent) as oracle:
        yield oracle


@contextmanager
def metered_tokens(
    endpoint: CompletionEndpoint,
    opened: Callable[[Wait, Tokens], CompletionOracle] | None = None,
    *,
    budget: int | None = None,
    patience: float = 300.0,
    label: str = "",
) -> Iterator[CompletionOracle]:
    """Opens the oracle of a language model as :func:`metered` that of rows; the bar shows tokens and money."""

    def alone(sleep: Wait, shown: Tokens) -> CompletionOracle:
        return endpoint.oracle(budget, patience=patience, sleep=sleep, on_answer=shown)

    bar = _bar(budget, label or endpoint.model, "token")
    with closing(endpoint), bar, _meter(opened or alone, bar, lambda oracle: oracle.spent.total) as oracle:
        yield oracle


def _bar(budget: int | None, label: str, unit: str) -> Any:
    return tqdm(total=budget, desc=label, unit=unit, dynamic_ncols=True, mininterval=0.5)


@contextmanager
def _meter(
    opened: Callable[[Wait, Callable[[Asked], None]], Asked], bar: Any, spent: Callable[[Asked], int]
) -> Iterator[Asked]:
    """Opens an oracle whose bar moves, and which an interrupt halts."""
    stop = threading.Event()

    def shown(oracle: Asked) -> None:
        money = oracle.money
        if money is not None:
            bar.set_postfix_str(f"spent {in_currency(money)}", refresh=False)
        bar.update(spent(oracle) - bar.n)

    oracle = opened(stop.wait, shown)

    def interrupted(signum: int, frame: types.FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        oracle.halt("interrupted")
        bar.write("interrupted: finishing with the answers so far; interrupt again to stop now", file=sys.stderr)

    before = {number: signal.signal(number, interrupted) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield oracle
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
