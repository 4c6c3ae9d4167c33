"""What the log of a monitor holds: rows with the victim's labels, and when an account was cleared."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import orjson

from defenses.monitoring.nearest import pixels
from wire import Array, Labels


class Entry(NamedTuple):
    """The rows of one request.

    Attributes:
        rows: The rows, or their features, ``(n, d)``.
        labels: The victim's labels, ``(n,)``.
        idempotency_key: The request's idempotency key, if any.
        account: The account, in a log of all accounts.
    """

    rows: Array
    labels: Labels
    idempotency_key: str | None = None
    account: str | None = None


class Cleared(NamedTuple):
    """From here on, the detector starts anew with an account."""

    account: str


def entry(x: Array, labels: Labels, idempotency_key: str | None = None, account: str | None = None) -> bytes:
    """Writes rows ``(n, ...)`` and labels ``(n,)``: a line of JSON, then bytes or float32."""
    rows = x.reshape(len(x), -1)
    if rows.dtype != np.uint8:
        rows = rows.astype("<f4", copy=False)
        same, shifted = pixels(rows)
        if same.all():
            rows = (shifted.view(np.uint8)) ^ 128
    head = {"labels": labels.tolist(), "pixels": rows.dtype == np.uint8}
    if idempotency_key is not None:
        head["receipt"] = idempotency_key
    if account is not None:
        head["account"] = account
    return orjson.dumps(head) + b"\n" + np.ascontiguousarray(rows).tobytes()


def cleared(account: str) -> bytes:
    """Writes :class:`Cleared`."""
    return orjson.dumps({"cleared": account}) + b"\n"


def read_entry(content: bytes) -> Entry | Cleared:
    """Reads what :func:`entry` or :func:`cleared` wrote.

    Raises:
        ValueError: It is neither.
    """
    line, _, octets = content.partition(b"\n")
    try:
        head = orjson.loads(line)
        if "cleared" in head:
            return Cleared(head["cleared"])
        labels = np.array(head["labels"], np.int64)
        rows = np.frombuffer(octets, "u1" if head["pixels"] else "<f4").reshape(len(labels), -1)
        return Entry(rows, labels, head.get("receipt"), head.get("account"))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not an entry: {error}") from None


def snapshot(idempotency_keys: list[str], state: bytes) -> bytes:
    """Writes a snapshot: the idempotency keys of the last requests, oldest first, and a saved state."""
    return orjson.dumps({"receipts": idempotency_keys}) + b"\n" + state


def read_snapshot(content: bytes) -> tuple[list[str], bytes]:
    """Reads what :func:`snapshot` wrote.

    Raises:
        ValueError: It is not a snapshot.
    """
    line, _, state = content.partition(b"\n")
    try:
        return orjson.loads(line)["receipts"], state
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not a snapshot: {error}") from None
