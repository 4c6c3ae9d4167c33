"""Reads the text of tokens as they come, up to a stop."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class Reader:
    """Returns as much of a text as is certain: whole characters, and none that may begin a stop.

    Attributes:
        stopped: Whether a stop was found; it is not part of the text, nor is what comes after it.
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self.stopped = False
        self._stops = stops
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def read(self, more: bytes, last: bool = False) -> str:
        """Returns the next part of the text; all that is left, if these are the last bytes."""
        self._held += self._characters.decode(more, last)
        found = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            return self._held[: min(found)]
        keep = 0 if last else max((_begun(self._held, stop) for stop in self._stops), default=0)
        told, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return told


def _begun(text: str, stop: str) -> int:
    """Returns how much of a stop, but not all of it, ends a text."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
