"""Reads a log of requests: one JSON object a line, with the rows in npz files beside it.

The members of a line, of which only ``account`` is required (``docs/detectors.md`` describes them):

- ``at``, ``account``, ``model``, ``rows``, ``labels``, ``id``, ``clears``, ``same_as``, ``kind``;
- ``file`` and ``first``: the rows are those from the index ``first`` on of the arrays in this file;
- ``prefix``, ``fingerprint``, ``plan``, ``opened``, ``payment``: where the request came from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import orjson

from wire import Array, BadInput, Origin
from wire.files import read_arrays
from zoo.data.pool import texts

MOST_LINES = 2**18  # of a block
MOST_BYTES = 2**25  # of the rows of a block, about
_NOWHERE = Origin()


class Request(NamedTuple):
    """A line of the log.

    Attributes:
        line: Its number, from 1.
        account: The account.
        model: The model that it asked; empty if the line names none.
        place: The model whose detectors' state it shares.
        at: Seconds since the epoch; 0 if unknown.
        rows: Number of rows.
        labels: The victim's own labels, if the line gives them.
        key: The idempotency key: a request that is repeated under it is observed once.
        clears: How often the account's alarms had been cleared, by detector.
        kind: The kind of customer; empty if the line names none.
        file: Name of the file of its rows.
        first: Index of its first row in the file's arrays.
        origin: Where it came from, as far as the line says.
    """

    line: int
    account: str
    model: str
    place: str
    at: float
    rows: int
    labels: Sequence[int] | None
    key: str | None
    clears: Mapping[str, int]
    kind: str
    file: str
    first: int
    origin: Origin


class Log:
    """A log that is read in blocks.

    Attributes:
        path: The file of lines.
        size: Its size, in bytes.
        done: How many bytes were read.
    """

    def __init__(self, path: Path) -> None:
        """Finds the log.

        Raises:
            BadInput: There is no such file.
        """
        try:
            self.path, self.size, self.done = path, path.stat().st_size, 0
        except OSError as error:
            raise BadInput(f"{path}: {error.strerror}") from None
        self._ends: dict[str, int] = {}  # index after the last row that was read of each file
        self._loaded: tuple[str, dict[str, Array]] = ("", {})

    def blocks(self) -> Iterator[list[Request]]:
        """Yields the requests in order, as many together as is quick.

        Raises:
            BadInput: A line is not what it should be.
        """
        with self.path.open("rb") as file:
            number, most = 0, 1
            while block := self._block(file, number, most):
                number += len(block)
                most = self._most(block[0])  # rows; known from the first block on
                yield block

    def _block(self, file: IO[bytes], number: int, most: int) -> list[Request]:
        block: list[Request] = []
        rows = 0
        while rows < most and len(block) < MOST_LINES and (line := file.readline()):
            self.done += len(line)
            request = self._request(number + len(block) + 1, line)
            block.append(request)
            rows += request.rows
        return block

    def _most(self, request: Request) -> int:
        """Returns how many rows to read at once, if all are as large as those of a request."""
        arrays = self._arrays(request).values()
        wide = max((array.nbytes // max(1, len(array)) for array in arrays if array.ndim > 1), default=1)
        return max(1, MOST_BYTES // max(64, wide))

    def _request(self, number: int, line: bytes) -> Request:
        try:
            given: dict[str, Any] = orjson.loads(line)
            get = given.get
            file = get("file") or f"{self.path.stem}.npz"
            labels = get("labels")
            rows = get("rows", 1 if labels is None else len(labels))
            first = get("first", self._ends.get(file, 0))
            self._ends[file] = first + rows
            model = get("model", "")
            found = Request(
                number,
                given["account"],
                model,
                get("same_as", model),
                get("at", 0.0),
                rows,
                labels,
                get("id"),
                get("clears") or {},
                get("kind", ""),
                file,
                first,
                _origin(given),
            )
        except KeyError:
            raise self.fault(number, 'has no member "account"') from None
        except (ValueError, TypeError, AttributeError) as error:
            raise self.fault(number, f"expected a JSON object of one request; {error}") from None
        if not isinstance(found.account, str) or rows < 1 or first < 0 or len(labels or [0] * rows) != rows:
            raise self.fault(number, "expected a name as account, at least one row, and a label for each or none")
        return found

    def fault(self, number: int, what: str) -> BadInput:
        """Returns the error about a line."""
        return BadInput(f"{self.path}, line {number}: {what}")

    def array(self, requests: Sequence[Request], name: str) -> Array | None:
        """Returns an array of the rows of requests, one after the other; None if the first's file has none.

        Args:
            requests: The requests.
            name: The array's name; for ``x``, the rows of each request's model come before those of all models.

        Raises:
            BadInput: A file is missing or broken, or has too few rows.
        """
        parts: list[tuple[Array, int, int]] = []
        end: tuple[str, str, int] | None = None
        for request in requests:
            arrays = self._arrays(request)
            found = arrays.get(f"{name}/{request.model}", arrays.get(name))
            if found is None and not parts:
                return None
            if found is None or len(found) < request.first + request.rows:
                have = f'no array "{name}"' if found is None else f"{len(found)} rows"
                raise self.fault(
                    request.line,
                    f"its rows end at {request.first + request.rows}, but {request.file} has {have}",
                )
            if end == (request.file, request.model, request.first):  # goes on where the last one ended
                parts[-1] = parts[-1][0], parts[-1][1], request.first + request.rows
            else:
                parts.append((found, request.first, request.first + request.rows))
            end = request.file, request.model, request.first + request.rows
        pieces = [array[begin:stop] for array, begin, stop in parts]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def _arrays(self, request: Request) -> dict[str, Array]:
        name = request.file
        if self._loaded[0] != name:
            if Path(name).name != name:
                raise self.fault(request.line, f"file must be a name beside the log, not {name!r}")
            read = read_arrays(self.path.with_name(name), "rows")
            self._loaded = name, {key: _rows(key, array) for key, array in read.items()}
        return self._loaded[1]


def _origin(given: Mapping[str, Any]) -> Origin:
    if not given.keys() & set(Origin._fields):
        return _NOWHERE
    found = Origin(**{name: given[name] for name in Origin._fields if name in given})
    if not all(type(value) is type(of) for value, of in zip(found, _NOWHERE, strict=True)):
        raise TypeError('"opened" is whole seconds; prefix, fingerprint, plan and payment are strings')
    return found


def _rows(name: str, array: Array) -> Array:
    """Returns an array as it is, or the texts that it holds as JSON."""
    return texts(json.loads(array.tobytes())) if name.startswith("x") and array.ndim == 1 else array
