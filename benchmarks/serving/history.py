"""A past for a store: the queries of a thousand accounts, charged as the server charges them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import numpy as np
from tqdm import tqdm

from defenses import Admission, Limit, Price, Quota, RateLimit
from defenses.store import open_store
from wire import Query

ROWS = 64  # in a request
SECONDS = 3600.0  # the past's length: a sixth of its idempotency_keys are still kept when the present begins


def write(url: str, model: str, accounts: list[str], rows: int) -> None:
    """Charges accounts for rows of the last hour, one request of each account at a time."""
    asyncio.run(_write(url, model, accounts, rows))


async def _write(url: str, model: str, accounts: list[str], rows: int) -> None:
    store = open_store(url)
    limits: list[Limit] = [RateLimit(rows_per_second=1e8, burst=10**8), Quota(rows=10**12, per="day")]
    admission = Admission(model, limits, Price(per_row=10_000))
    turns, now, x = -(-rows // (ROWS * len(accounts))), time.time(), np.zeros((ROWS, 1), np.float32)

    def queries(turn: int) -> Iterator[Query]:
        at = now - SECONDS * (1 - turn / turns)
        return (Query(account, x, at, f"{turn}") for account in accounts)

    try:
        for turn in tqdm(range(turns), desc="history", unit="turn", leave=False, dynamic_ncols=True):
            bills = [admission.bill(query) for query in queries(turn)]
            for bill, verdict in zip(bills, await store.charge_all([bill.charge for bill in bills]), strict=True):
                bill.limits(verdict)  # or raises, if one is refused
    finally:
        await store.close()
