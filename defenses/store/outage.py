"""What a store does while it cannot be used: it refuses, and logs the beginning and the end, once each."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from wire import Refused

log = logging.getLogger(__name__)


class Outage:
    """The time in which a store cannot be used, if that is now."""

    def __init__(self, errors: tuple[type[Exception], ...], tell: Callable[[Exception], str]) -> None:
        """Knows of none.

        Args:
            errors: The errors that mean that the store cannot be used.
            tell: Describes such an error to clients.
        """
        self._errors, self._tell = errors, tell
        self._since: float | None = None

    @contextmanager
    def watched(self, *, writes: bool) -> Iterator[None]:
        """Turns errors into refusals (503). Only a write ends an outage, since a full disk can still be read."""
        try:
            yield
        except self._errors as error:
            if self._since is None:
                self._since = time.monotonic()
                log.error(
                    "the store is unavailable, and requests are refused: %s: %s", type(error).__name__, error
                )
            raise Refused(f"the store is unavailable: {self._tell(error)}", status=503, retry_after=1) from error
        if writes and self._since is not None:
            log.warning("the store is available again, after %.1f seconds", time.monotonic() - self._since)
            self._since = None
