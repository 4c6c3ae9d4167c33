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
    """Puts a meter and a progress bar on an endpoint, and closes it at the end.

    The bar shows rows and money spent. An interrupt (Ctrl-C, SIGTERM) ends the budget, so that a method stops
    with the answers that it has; a second one ends the command.

    Args:
        endpoint: The model.
        transport: A transport around the endpoint, to be asked in its place.
        budget: Most rows to ask about; None for no limit.
        patience: Longest wait for one request, in seconds.
        label: Name of the progress bar; that of the model by default.
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
