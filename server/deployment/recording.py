"""Records what victims are asked: lines of JSON, and files of rows beside them, for ``detect`` and ``calibrate``.

The form is that of :mod:`server.commands.access_log`. A request is recorded when the bare victim has answered it,
which is also when detectors see it: requests that limits refuse are not in the log, those
that a new alarm refuses are.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from defenses import Handler
from defenses.monitoring.nearest import pixels
from wire import Answer, Array, BadInput, Query

log = logging.getLogger(__name__)

ROWS = 4096  # after which a file of rows is written
SECONDS = 1.0  # after which lines are written, however few there are
MODELS = 32  # most models in a file of rows


class AccessLog:
    """Appends to a log; all requests to all models of this process go through one object."""

    def __init__(self, path: Path) -> None:
        """Checks that the log can be written.

        Raises:
            BadInput: It cannot.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.open("ab").close()
        except OSError as error:
            raise BadInput(f"access_log {path}: {error.strerror}") from None
        self._path, self._run, self._files = path, secrets.token_hex(4), 0
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="access log")
        self._due: asyncio.TimerHandle | None = None
        self._begin()

    def _begin(self) -> None:
        self._lines: list[dict[str, Any]] = []
        self._kept: dict[str, list[Array]] = {}
        self._ends: dict[str, int] = {}  # rows that are kept of each model

    def around(
        self, model: str, place: str, victim: Handler, clears: Callable[[str], Mapping[str, int]]
    ) -> Handler:
        """Returns a handler that answers as the victim does, and records it.

        Args:
            model: The victim's name.
            place: The name that stands for all names of its weights.
            victim: The victim.
            clears: Returns how often the alarms of an account were cleared, by detector, where any were.
        """

        async def recorded(query: Query) -> Answer:
            answer = await victim(query)
            line = {"at": query.at, "account": query.account, "model": model, "rows": len(query.x)}
            if place != model:
                line["same_as"] = place
            if query.idempotency_key is not None:
                line["id"] = query.idempotency_key
            if found := clears(query.account):
                line["clears"] = found
            if query.origin is not None:
                line |= {name: value for name, value in query.origin._asdict().items() if value}
            self._take({**line, "labels": answer.labels.tolist()}, query.x)
            return answer

        return recorded

    def _take(self, line: dict[str, Any], x: Array) -> None:
        model = line["model"]
        line["first"] = self._ends.get(model, 0)
        self._ends[model] = line["first"] + len(x)
        self._kept.setdefault(model, []).append(x)
        self._lines.append(line)
        if sum(self._ends.values()) >= ROWS or len(self._kept) >= MODELS:
            self._flush()
        elif self._due is None:
            self._due = asyncio.get_running_loop().call_later(SECONDS, self._flush)

    def _flush(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
        if self._lines:
            self._files += 1
            name = f"{self._path.stem}-{self._run}-{self._files:06d}.npz"
            self._writer.submit(self._write, name, self._lines, self._kept)
            self._begin()

    def close(self) -> None:
        """Writes what is still to be written."""
        self._flush()
        self._writer.shutdown()

    def _write(self, name: str, lines: list[dict[str, Any]], kept: Mapping[str, list[Array]]) -> None:
        """Writes rows, then the lines that speak of them, in one step, since processes share the log."""
        try:
            arrays = {f"x/{model}": packed(np.concatenate(parts)) for model, parts in kept.items()}
            np.savez(self._path.with_name(name), **arrays)  # type: ignore[arg-type]  # as in Pool.save
            with self._path.open("ab", buffering=0) as file:
                file.write(b"".join(orjson.dumps({**line, "file": name}) + b"\n" for line in lines))
        except Exception:
            log.exception("%d requests are missing from %s", len(lines), self._path)


def packed(x: Array) -> Array:
    """Returns rows as a log keeps them: pixels as bytes, texts as JSON, ``(bytes,)``, others as they are."""
    if x.dtype == object:
        return np.frombuffer(orjson.dumps(x.tolist()), np.uint8)
    same, shifted = pixels(x.reshape(len(x), -1))
    return (shifted.view(np.uint8) ^ np.uint8(128)).reshape(x.shape) if same.all() else x
