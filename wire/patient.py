"""A transport that waits and retries when the server asks for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from wire.errors import Refused

Asked = TypeVar("Asked")
Told = TypeVar("Told")


@dataclass
class Patient(Generic[Asked, Told]):
    """Waits out temporary refusals (429, 503) and retries; raises any other refusal.

    Attributes:
        transport: The transport to use.
        patience: Longest total wait for one request, in seconds.
        sleep: Waits for a number of seconds, like ``threading.Event.wait``; a true result means that the wait
            was interrupted and the request is cancelled.
    """

    transport: Callable[[Asked], Told]
    patience: float = 300.0
    sleep: Callable[[float], object] = time.sleep

    def __call__(self, x: Asked) -> Told:
        """Returns the transport's answer: about rows ``x``, ``(n, *input_shape)``, for example.

        Raises:
            Refused: Waiting does not help, or would exceed ``patience``.
            Unreachable: The server did not answer.
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
