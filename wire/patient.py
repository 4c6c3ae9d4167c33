"""A transport that waits as it is told."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from wire.errors import Refused
from wire.oracle import Transport
from wire.types import Answer, Array


@dataclass
class Patient:
    """Waits out refusals that pass (429, 503) and asks again; any other refusal goes through.

    Attributes:
        transport: The transport that is asked.
        patience: Most seconds to wait for one request, all its waits together.
        sleep: Waits some seconds; a true result means that the wait was cut short and nobody wants the
            answer any more (``threading.Event.wait`` is such a function).
    """

    transport: Transport
    patience: float = 300.0
    sleep: Callable[[float], object] = time.sleep

    def __call__(self, x: Array) -> Answer:
        """Answers about the rows ``x``, ``(n, *input_shape)``.

        Raises:
            Refused: Waiting does not help, or not within ``patience``.
            Unreachable: No answer came.
        """
        waited, backoff = 0.0, 1.0
        while True:
            try:
                return self.transport(x)
            except Refused as refused:
                if refused.status not in (429, 503):
                    raise
                wait = backoff if refused.retry_after is None else refused.retry_after
                if waited + wait > self.patience or self.sleep(wait):
                    raise
                waited += wait
                backoff *= 2
