"""Stores for the state of defences and accounts: counters, receipts and append-only logs.

A URL names the store: ``sqlite:///PATH`` (``sqlite://`` alone is in memory) or ``redis://HOST:PORT/N``.
"""

from __future__ import annotations

from defenses.microbatch import Observe
from defenses.store.counters import EMPTIES, Charge, Counter, Level, Verdict
from defenses.store.sqlite import SQLiteStore
from defenses.store.store import CONTROL, LogSlice, Store, VersionConflict
from wire import BadInput

__all__ = [
    "CONTROL",
    "EMPTIES",
    "Charge",
    "Counter",
    "Level",
    "LogSlice",
    "SQLiteStore",
    "Store",
    "Verdict",
    "VersionConflict",
    "open_store",
]


def open_store(url: str, observe: Observe | None = None) -> Store:
    """Opens the store that a URL names.

    Args:
        url: The URL.
        observe: Called after each round trip with its duration in seconds and its number of charges.

    Raises:
        BadInput: The URL has an unknown scheme.
    """
    kind, _, rest = url.partition("://")
    if kind == "sqlite":
        return SQLiteStore(rest.removeprefix("/") or ":memory:", observe)
    if kind in ("redis", "rediss", "unix"):
        from defenses.store.redis import RedisStore  # deferred: redis is optional

        return RedisStore(url, observe)
    raise BadInput(f"store {url!r}: expected sqlite:///PATH or redis://HOST:PORT/N")
