"""Runs one attack on one endpoint, and writes its results to a folder."""

from __future__ import annotations

import dataclasses
import itertools
import json
import platform
import re
import shutil
import time
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from attacker.asking import NotApplicable
from attacker.extraction.extraction import Extraction
from attacker.membership.membership import Membership
from attacker.transports import Journal, save_transfer
from cli.meter import metered
from wire import BadInput, BudgetSpent, Oracle, WireError
from wire.fits import with_ranges
from wire.http import Endpoint
from zoo import folder
from zoo.data.pool import Pool

PACKAGES = ("numpy", "torch", "httpx")
RESULTS = ("result.json", "scores.npz", "transfer.npz")
UNFINISHED, JOURNAL, LOCK = "unfinished", "journal.npy", ".lock"


def conduct(
    name: str,
    attack: Extraction | Membership,
    endpoint: Endpoint,
    pools: dict[str, Pool],
    *,
    budget: int,
    patience: float,
    seed: int,
    out: Path,
) -> dict[str, Any]:
    """Runs an attack with a progress bar, and writes its results.

    An extraction attack writes ``surrogate/`` and ``transfer.npz``; a membership attack writes ``scores.npz``
    (``scores``, ``(n,)`` float64, and ``y``, ``(n,)`` int64, in the order of the candidates; ``threshold``, NaN
    if the attack has none). Both write ``result.json``. The results replace those of an earlier run only when the
    attack has ended. Until then, all files, the answers included, are in ``unfinished/``, for :func:`rescue`.

    Args:
        name: The attack's name.
        attack: The attack.
        endpoint: The victim's endpoint.
        pools: The attacker's rows: ``pool`` for an extraction attack, ``candidates`` and ``shadow`` for
            membership.
        budget: Maximum number of rows to query.
        patience: Longest wait for one request, in seconds.
        seed: Seed of all randomness.
        out: Folder of the results; it must exist and have no ``unfinished/``.

    Returns:
        The content of ``result.json``.

    Raises:
        BadInput: The attack cannot be run with these settings and rows.
        WireError: Not a single row was answered.
    """
    new = out / UNFINISHED
    new.mkdir()
    for pool in pools.values():  # what the server does not tell, the attacker's rows do
        endpoint.card = with_ranges(endpoint.card, pool.x)
    rng = np.random.default_rng(seed)
    settings = {"attack": name, "settings": dataclasses.asdict(attack), "seed": seed}
    before, started = _account(endpoint), time.perf_counter()
    journal = Journal(endpoint, new / JOURNAL, endpoint.card.classes)
    metering = metered(endpoint, journal, budget=budget, patience=patience, label=name)
    with FileLock(new / LOCK, timeout=0):
        with closing(journal), metering as oracle:
            try:
                if isinstance(attack, Extraction):
                    surrogate = attack.extract(oracle, pools["pool"], rng)
                    folder.save(surrogate, new / "surrogate", **_plain({**settings, "bill": _bill(oracle)}))
                else:
                    candidates = pools["candidates"]
                    assert candidates.y is not None
                    scores = attack.infer(oracle, candidates.x, candidates.y, pools["shadow"], rng)
                    threshold = np.nan if attack.threshold is None else attack.threshold
                    np.savez(new / "scores.npz", scores=scores, y=candidates.y, threshold=threshold)
                status, reason = _end(oracle, budget, pools.get("pool"))
            except NotApplicable as why:
                status, reason = "not applicable", str(why)
            after = _account(endpoint)
        if isinstance(attack, Extraction) and (new / JOURNAL).exists():
            save_transfer(new / JOURNAL, new / "transfer.npz")
        result = _plain(
            {
                **settings,
                "budget": budget,
                "endpoint": {"url": re.sub("//[^/@]*@", "//", endpoint.base), "model": endpoint.model},
                "card": dataclasses.asdict(endpoint.card),
                "status": status,
                "reason": reason,
                **_bill(oracle),
                "account_before": before,
                "account_after": after,
                "seconds": round(time.perf_counter() - started, 3),
                "versions": {
                    "python": platform.python_version(),
                    **{package: version(package) for package in PACKAGES},
                },
            }
        )
        (new / "result.json").write_text(json.dumps(result, indent=2) + "\n")
        _replace(new, out)
    return result


def rescue(out: Path) -> tuple[int, Path] | None:
    """Saves the answers of an interrupted run, and removes its other files.

    Args:
        out: Folder of the run's results.

    Returns:
        The number of answered rows, and the file of the transfer set; None if there are no answers.

    Raises:
        BadInput: The run is still in progress.
    """
    begun, kept = out / UNFINISHED, None
    if not begun.exists():
        return None
    try:
        with FileLock(begun / LOCK, timeout=0):
            if (begun / JOURNAL).exists():
                number = next(n for n in itertools.count(1) if not (out / f"rescued-{n}.npz").exists())
                path = out / f"rescued-{number}.npz"
                kept = save_transfer(begun / JOURNAL, path), path
            shutil.rmtree(begun)
    except Timeout:
        raise BadInput(f"{out}: another attack is still writing to this folder; choose another one") from None
    return kept


def _replace(new: Path, out: Path) -> None:
    """Replaces an earlier run's results; removes the old ``result.json`` first and adds the new one last."""
    for name in RESULTS:
        (out / name).unlink(missing_ok=True)
    shutil.rmtree(out / "surrogate", ignore_errors=True)
    for name in ("surrogate", *reversed(RESULTS)):
        if (new / name).exists():
            (new / name).replace(out / name)
    shutil.rmtree(new)


def _end(oracle: Oracle, budget: int, pool: Pool | None) -> tuple[str, str | None]:
    """Returns the status, ``done`` (also if the budget is spent) or ``stopped``, and a reason if there is one."""
    left = budget - oracle.spent
    if oracle.ended is not None and not (isinstance(oracle.ended, BudgetSpent) and left == 0):
        return "stopped", str(oracle.ended)
    if pool is not None and left and oracle.spent == len(pool):
        return "done", f"the pool of {len(pool)} rows is exhausted; {left} rows of the budget were not spent"
    return "done", None


def _bill(oracle: Oracle) -> dict[str, int | None]:
    """Returns the answered rows and requests, and the micro-cents spent if the prices are known."""
    return {"rows": oracle.spent, "requests": oracle.requests, "money": oracle.money}


def _account(endpoint: Endpoint) -> dict[str, Any] | None:
    """Returns the server's record of the account, if it discloses one."""
    try:
        return endpoint.account()
    except WireError:
        return None


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Converts values to JSON types: paths to strings, tuples to lists."""
    plain: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return plain
