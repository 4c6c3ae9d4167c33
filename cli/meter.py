"""A budget, a bill and a progress bar for an endpoint."""

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
from wire.oracle import Oracle, Transport
from wire.patient import Patient


@contextmanager
def metered(
    endpoint: Endpoint,
    transport: Transport | None = None,
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
        transport: A transport that wraps the endpoint, to use instead of it.
        budget: Maximum number of rows to query; None for no limit.
        patience: Longest wait for one request, in seconds.
        label: Name of the progress bar; default: the model's name.
    """
    stop = threading.Event()
    bar = tqdm(total=budget, desc=label or endpoint.model, unit="row", dynamic_ncols=True, mininterval=0.5)

    def shown(oracle: Oracle) -> None:
        money = oracle.money
        if money is not None:
            bar.set_postfix_str(f"spent {in_currency(money)}", refresh=False)
        bar.update(oracle.spent - bar.n)

    oracle = Oracle(
        Patient(transport or endpoint, patience, stop.wait),
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
        bar.write("interrupted: finishing with the answers so far; interrupt again to stop now", file=sys.stderr)

    before = {number: signal.signal(number, interrupted) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield oracle
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        bar.close()
        endpoint.close()
