"""A budget, a bill and a progress bar around an endpoint."""

from __future__ import annotations

import signal
import sys
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from cli.money import in_currency
from wire.http import Endpoint
from wire.oracle import Oracle
from wire.patient import Patient


@contextmanager
def metered(
    endpoint: Endpoint, *, budget: int | None = None, patience: float = 300.0, label: str = ""
) -> Iterator[Oracle]:
    """Puts a meter and a progress bar on an endpoint.

    The bar shows rows and money spent. An interrupt (Ctrl-C, SIGTERM) ends the budget, so that a method stops
    with what it has; a second one ends the command.
    """
    stop = threading.Event()
    bar = tqdm(total=budget, desc=label or endpoint.model, unit="row", dynamic_ncols=True, mininterval=0.5)

    def shown(oracle: Oracle) -> None:
        money = oracle.money
        if money is not None:
            bar.set_postfix_str(f"spent {in_currency(money)}", refresh=False)
        bar.update(oracle.spent - bar.n)

    oracle = Oracle(
        Patient(endpoint, patience, stop.wait),
        endpoint.card,
        budget,
        prices=endpoint.prices(),
        on_answer=shown,
    )

    def interrupted(signum: int, frame: types.FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        oracle.halt("interrupted")
        bar.write("interrupted: going on with what was answered; once more to end at once", file=sys.stderr)

    before = {number: signal.signal(number, interrupted) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield oracle
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        bar.close()
        endpoint.close()
