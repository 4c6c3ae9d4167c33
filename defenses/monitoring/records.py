"""The entries of a monitor's log: the rows of each request, with the victim's labels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import orjson

from defenses.detectors.detector import Sent
from defenses.monitoring.nearest import pixels
from wire import Array, Labels, Origin


class Entry(NamedTuple):
    """The rows of one request.

    Attributes:
        rows: The rows, or their features, ``(n, d)``.
        labels: The victim's labels, ``(n,)``.
        idempotency_key: The request's idempotency key, if any.
        account: The account, in a log of all accounts.
        clears: How often the account's alarm had been cleared. If the number has increased, the detector starts
            anew with the account before these rows.
        sent: When the request came, and from where; empty if that is not logged.
    """

    rows: Array
    labels: Labels
    idempotency_key: str | None = None
    account: str | None = None
    clears: int = 0
    sent: Sent = Sent()


def entry(
    x: Array,
    labels: Labels,
    idempotency_key: str | None = None,
    account: str | None = None,
    clears: int = 0,
    sent: Sent | None = None,
) -> bytes:
    """Writes rows ``(n, ...)`` and labels ``(n,)``: a line of JSON, then pixels as bytes, others as float32."""
    rows = x.reshape(len(x), -1)
    parts, mixed = [rows], None
    if rows.dtype != np.uint8:
        rows = rows.astype("<f4", copy=False)
        same, shifted = pixels(rows)
        octets = shifted.view(np.uint8) ^ 128
        if same.all():
            parts = [octets]
        elif same.any():
            parts, mixed = [octets[same], rows[~same]], np.packbits(same).tobytes().hex()
        else:
            parts = [rows]
    head = {"labels": labels.tolist(), "pixels": parts[-1].dtype == np.uint8}
    if mixed is not None:  # which rows are pixels
        head["mixed"] = mixed
    if idempotency_key is not None:
        head["receipt"] = idempotency_key
    if account is not None:
        head["account"] = account
    if clears:
        head["clears"] = clears
    if sent is not None:
        head["at"], head["origin"] = sent.at, sent.origin._asdict()
    return orjson.dumps(head) + b"\n" + b"".join(np.ascontiguousarray(part).tobytes() for part in parts)


def read_entry(content: bytes) -> Entry:
    """Reads an entry written by :func:`entry`.

    Raises:
        ValueError: The bytes are not an entry.
    """
    line, _, octets = content.partition(b"\n")
    try:
        head = orjson.loads(line)
        labels = np.array(head["labels"], np.int64)
        if "mixed" in head:
            rows = _mixed(
                octets, np.unpackbits(np.frombuffer(bytes.fromhex(head["mixed"]), np.uint8)), len(labels)
            )
        else:
            rows = np.frombuffer(octets, "u1" if head["pixels"] else "<f4").reshape(len(labels), -1)
        sent = Sent(head.get("at", 0.0), Origin(**head.get("origin", {})))
        return Entry(rows, labels, head.get("receipt"), head.get("account"), head.get("clears", 0), sent)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not an entry: {error}") from None


def _mixed(octets: bytes, bits: Array, n: int) -> Array:
    """Returns rows of which some were written as pixels, as bits ``(n,)`` say, ``(n, d)`` float32."""
    same = bits[:n].astype(bool)
    d = len(octets) // int(same.sum() + 4 * (~same).sum())
    end = int(same.sum()) * d
    rows = np.empty((n, d), np.float32)
    rows[same] = np.frombuffer(octets[:end], np.uint8).reshape(-1, d) / np.float32(255)
    rows[~same] = np.frombuffer(octets[end:], "<f4").reshape(-1, d)
    return rows


class Snapshot(NamedTuple):
    """A saved state.

    Attributes:
        idempotency_keys: Idempotency keys of the last requests, oldest first.
        clears: How often each account's alarm had been cleared, for accounts with clears.
        state: The detector's state.
    """

    idempotency_keys: list[str]
    clears: dict[str, int]
    state: bytes

    def to_bytes(self) -> bytes:
        """Writes the snapshot: a line of JSON, then the state."""
        return orjson.dumps({"receipts": self.idempotency_keys, "clears": self.clears}) + b"\n" + self.state


def read_snapshot(content: bytes) -> Snapshot:
    """Reads a snapshot written by :meth:`Snapshot.to_bytes`.

    Raises:
        ValueError: The bytes are not a snapshot.
    """
    line, _, state = content.partition(b"\n")
    try:
        head = orjson.loads(line)
        return Snapshot(head["receipts"], head.get("clears", {}), state)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not a snapshot: {error}") from None
