"""Runs one attack on one endpoint, and writes its results to a folder."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from attacker.asking import NotApplicable
from attacker.extraction.extraction import Extraction
from attacker.inversion.inversion import Inversion
from attacker.journal import Journal, save_transfer
from attacker.membership.membership import Membership
from attacker.results import JOURNAL, LOCK, UNFINISHED, accounts, finish, plain, shown
from attacker.transports.transports import Transports
from cli.meter import metered
from wire import BudgetSpent, Oracle
from wire.fits import with_ranges
from wire.http import Endpoint
from zoo import folder
from zoo.data.pool import Pool


def conduct(
    name: str,
    attack: Extraction | Membership | Inversion,
    endpoints: Sequence[Endpoint],
    pools: dict[str, Pool],
    *,
    transports: Transports = Transports(),  # noqa: B008
    budget: int,
    patience: float,
    seed: int,
    out: Path,
    label: int = 0,
) -> dict[str, Any]:
    """Runs an attack with a progress bar, and writes its results.

    An extraction attack writes ``surrogate/`` and ``transfer.npz``; a membership attack writes ``scores.npz``
    (``scores``, ``(n,)`` float64, and ``y``, ``(n,)`` int64, in the order of the candidates; ``threshold``, NaN
    if the attack has none); an inversion attack writes ``inverted.npz``, a file of one row. All write
    ``result.json``. The results replace those of an earlier run only when the attack has ended. Until then, all
    files, the answers included, are in ``unfinished/``, for :func:`~attacker.results.rescue`.

    Args:
        name: The attack's name.
        attack: The attack.
        endpoints: The connection of each account to the victim.
        pools: The attacker's rows: ``pool`` for an extraction attack, ``candidates`` and ``shadow`` for
            membership.
        transports: How the rows travel.
        budget: Maximum number of rows to send, copies and dummies included.
        patience: Longest wait for one request, in seconds.
        seed: Seed of all randomness.
        out: Folder of the results; it must exist and have no ``unfinished/``.
        label: The class that an inversion attack reconstructs.

    Returns:
        The content of ``result.json``.

    Raises:
        BadInput: The attack cannot be run with these settings and rows.
        WireError: Not a single row was answered.
    """
    new = out / UNFINISHED
    new.mkdir()
    for pool in pools.values():  # what the server does not tell, the attacker's rows do
        for endpoint in endpoints:
            endpoint.card = with_ranges(endpoint.card, pool.x)
    endpoint = endpoints[0]
    rng, theirs = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    settings = {"attack": name, "settings": dataclasses.asdict(attack), "seed": seed}
    before, started = accounts(endpoints), time.perf_counter()
    journal = Journal(new / JOURNAL, endpoint.card.embedding or endpoint.card.classes)
    opened = partial(_opened, transports, endpoints, budget=budget, patience=patience, rng=theirs, journal=journal)
    metering = metered(endpoint, opened, budget=budget, label=name)
    with FileLock(new / LOCK, timeout=0):
        with closing(journal), metering as oracle:
            try:
                if endpoint.card.embedding and not getattr(attack, "embeddings", False):
                    raise NotApplicable("the model answers embeddings, not classes")
                if isinstance(attack, Extraction):
                    surrogate = attack.extract(oracle, pools["pool"], rng)
                    folder.save(surrogate, new / "surrogate", **plain({**settings, "bill": _bill(oracle)}))
                elif isinstance(attack, Inversion):
                    settings["label"] = label
                    row = attack.invert(oracle, label, rng)
                    Pool(row[None], np.array([label]), endpoint.card.class_names).save(new / "inverted.npz")
                else:
                    candidates = pools["candidates"]
                    assert candidates.y is not None
                    scores = attack.infer(oracle, candidates.x, candidates.y, pools["shadow"], rng)
                    threshold = np.nan if attack.threshold is None else attack.threshold
                    np.savez(new / "scores.npz", scores=scores, y=candidates.y, threshold=threshold)
                status, reason = _end(oracle, budget, transports, pools.get("pool"))
            except NotApplicable as why:
                status, reason = "not applicable", str(why)
            after = accounts(endpoints)
        if isinstance(attack, Extraction) and (new / JOURNAL).exists():
            save_transfer(new / JOURNAL, new / "transfer.npz")
        return finish(
            out,
            {
                **settings,
                "budget": budget,
                "transports": dataclasses.asdict(transports),
                "endpoint": {"url": shown(endpoint.base), "model": endpoint.model},
                "card": dataclasses.asdict(endpoint.card),
                "status": status,
                "reason": reason,
                **_bill(oracle),
                "account_before": before,
                "account_after": after,
                "seconds": round(time.perf_counter() - started, 3),
            },
        )


def _opened(
    transports: Transports,
    endpoints: Sequence[Endpoint],
    sleep: Callable[[float], object],
    on_answer: Callable[[Oracle], None],
    *,
    budget: int,
    patience: float,
    rng: np.random.Generator,
    journal: Journal,
) -> Oracle:
    return transports.oracle(
        endpoints,
        budget,
        rng,
        journal=journal,
        dummies=transports.drawn(endpoints[0].card, rng),
        patience=patience,
        sleep=sleep,
        on_answer=on_answer,
    )


def _end(oracle: Oracle, budget: int, transports: Transports, pool: Pool | None) -> tuple[str, str | None]:
    """Returns the status, ``done`` (also if the budget is spent) or ``stopped``, and a reason if there is one."""
    left = budget - oracle.spent
    spent = isinstance(oracle.ended, BudgetSpent) and left < transports.rows_for_one
    if oracle.ended is not None and not spent:
        return "stopped", str(oracle.ended)
    if pool is not None and left and oracle.spent == len(pool):
        return "done", f"the pool of {len(pool)} rows is exhausted; {left} rows of the budget were not spent"
    return "done", None


def _bill(oracle: Oracle) -> dict[str, int | None]:
    """Returns the answered rows and requests, and the micro-cents spent if the prices are known."""
    return {"rows": oracle.spent, "requests": oracle.requests, "money": oracle.money}
