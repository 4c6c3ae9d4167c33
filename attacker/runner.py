"""One attack on one endpoint, from its first row to what it leaves in a folder."""

from __future__ import annotations

import dataclasses
import json
import platform
import re
import shutil
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from attacker.extraction.extraction import Extraction
from attacker.membership.membership import Membership, NotApplicable
from attacker.recording import Recording
from cli.meter import metered
from wire import BudgetSpent, Oracle, WireError
from wire.http import Endpoint
from zoo import folder
from zoo.data.pool import Pool

PACKAGES = ("numpy", "torch", "httpx")


def conduct(
    name: str,
    attack: Extraction | Membership,
    endpoint: Recording,
    pools: dict[str, Pool],
    *,
    budget: int,
    patience: float,
    seed: int,
    out: Path,
) -> dict[str, Any]:
    """Runs an attack under a progress bar and writes its artefacts and its result.

    An extraction leaves ``surrogate/`` and ``transfer.npz``, a membership attack ``scores.npz`` (``scores``,
    ``(n,)`` float64, and ``y``, ``(n,)`` int64, in the order of the candidates); both leave ``result.json``.

    Args:
        name: The attack's name.
        attack: The attack.
        endpoint: The way to the victim.
        pools: The attacker's rows: ``pool`` for an extraction, ``candidates`` and ``shadow`` for membership.
        budget: Most rows to ask about.
        patience: Most seconds to wait for one request.
        seed: Seed of all randomness.
        out: Folder for what is left; it must be there.

    Returns:
        What ``result.json`` holds.

    Raises:
        BadInput: The attack cannot be run with these settings and rows.
        WireError: Not a single row was answered.
    """
    for left in ("scores.npz", "transfer.npz", "result.json"):  # by an earlier attack
        (out / left).unlink(missing_ok=True)
    shutil.rmtree(out / "surrogate", ignore_errors=True)
    rng = np.random.default_rng(seed)
    settings = {"attack": name, "settings": dataclasses.asdict(attack), "seed": seed}
    before, started = _account(endpoint), time.perf_counter()
    with metered(endpoint, budget=budget, patience=patience, label=name) as oracle:
        try:
            if isinstance(attack, Extraction):
                surrogate = attack.extract(oracle, pools["pool"], rng)
                folder.save(surrogate, out / "surrogate", **_plain({**settings, "bill": _bill(oracle)}))
                endpoint.save(out / "transfer.npz")
            else:
                candidates = pools["candidates"]
                assert candidates.y is not None
                scores = attack.infer(oracle, candidates.x, candidates.y, pools["shadow"], rng)
                np.savez(out / "scores.npz", scores=scores, y=candidates.y)
            status, reason = _end(oracle, budget)
        except NotApplicable as why:
            status, reason = "not applicable", str(why)
        after = _account(endpoint)
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
    (out / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    return result


def _end(oracle: Oracle, budget: int) -> tuple[str, str | None]:
    """Tells whether the attack is done, as it also is with its budget, or was stopped, and by what."""
    if oracle.ended is None or (isinstance(oracle.ended, BudgetSpent) and oracle.spent == budget):
        return "done", None
    return "stopped", str(oracle.ended)


def _bill(oracle: Oracle) -> dict[str, int | None]:
    """Returns rows and requests answered, and micro-cents spent if the prices are known."""
    return {"rows": oracle.spent, "requests": oracle.requests, "money": oracle.money}


def _account(endpoint: Endpoint) -> dict[str, Any] | None:
    """Returns what the server has on the account, if it tells."""
    try:
        return endpoint.account()
    except WireError:
        return None


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Leaves only what goes into JSON: paths become text, tuples lists."""
    plain: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return plain
