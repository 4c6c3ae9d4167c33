"""Attacks a served model: ``python -m attacker NAME --url ... --key ... --budget N --out FOLDER``."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import platform
import re
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from attacker import ATTACKS, EXTRACTION, Extraction, Membership, NotApplicable
from attacker.recording import Recording
from attacker.victim import fitting
from wire import BadInput, BudgetSpent, Card, Oracle, WireError
from wire.command import MICRO, Parser, add_endpoint, add_fields, from_fields, metered, read_key, run, summary
from wire.http import CardOptions, Endpoint
from zoo import folder
from zoo.data.pool import Pool


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one attack; leaves its surrogate or its scores, and a ``result.json``, in a folder."""
    arguments = _parser().parse_args(argv)
    attack = from_fields(ATTACKS[arguments.attack], arguments)
    endpoint = Recording(
        arguments.url,
        model=arguments.model,
        key=read_key(arguments.key, arguments.key_file),
        options=from_fields(CardOptions, arguments),
    )
    pools = _pools(arguments, endpoint.card)
    _make(arguments.out)
    result: dict[str, Any] = {
        "attack": arguments.attack,
        "settings": dataclasses.asdict(attack),
        "seed": arguments.seed,
        "budget": arguments.budget,
        "endpoint": {"url": re.sub("//[^/@]*@", "//", endpoint.base), "model": endpoint.model},
        "card": dataclasses.asdict(endpoint.card),
        "account_before": _account(endpoint),
    }
    started = time.perf_counter()
    with metered(endpoint, budget=arguments.budget, patience=arguments.patience, label=arguments.attack) as oracle:
        try:
            if isinstance(attack, Extraction):
                _steal(attack, oracle, pools["pool"], arguments.out, result)
                endpoint.save(arguments.out / "transfer.npz")
            else:
                _spy(attack, oracle, pools["candidates"], pools["shadow"], arguments.out, arguments.seed)
            status, reason = _ended(oracle, arguments.budget)
        except NotApplicable as why:
            status, reason = "not applicable", str(why)
        result |= {"status": status, "reason": reason, **_bill(oracle)}
        result |= {"seconds": round(time.perf_counter() - started, 3), "account_after": _account(endpoint)}
    result["versions"] = {"python": platform.python_version()} | {
        name: version(name) for name in ("numpy", "torch", "httpx")
    }
    (arguments.out / "result.json").write_text(json.dumps(result, indent=2, default=str) + "\n")
    money = "" if oracle.money is None else f", {oracle.money / MICRO:.4f} spent"
    print(f"{status}{f': {reason}' if reason else ''}; {oracle.spent} rows{money}; see {arguments.out}")


def _parser() -> Parser:
    parser = Parser("python -m attacker", description="Attacks a served model.")
    attacks = parser.add_subparsers(dest="attack", required=True, metavar="NAME")
    for name, cls in ATTACKS.items():
        command = attacks.add_parser(
            name,
            help=summary(cls),
            description=(inspect.getdoc(cls) or "").partition("Attributes:")[0],
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.add_argument("--budget", type=_positive, required=True, help="most rows to ask about")
        command.add_argument("--out", type=Path, required=True, help="folder for what the attack leaves")
        command.add_argument("--seed", type=int, default=0, help="seed of all randomness (default: 0)")
        if name in EXTRACTION:
            command.add_argument("--pool", type=Path, required=True, help="file of rows to draw from")
        else:
            command.add_argument(
                "--candidates", type=Path, required=True, help="file of the rows to judge, with their true labels"
            )
            command.add_argument(
                "--shadow", type=Path, help="file of labelled rows like the candidates, to train shadow models on"
            )
        add_fields(command.add_argument_group("settings of the attack"), cls)  # type: ignore[arg-type]
        add_endpoint(command)
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of rows, at least 1")
    return int(text)


def _pools(arguments: argparse.Namespace, card: Card) -> dict[str, Pool]:
    """Reads and checks the files before anything is spent."""
    if arguments.attack in EXTRACTION:
        return {"pool": fitting(arguments.pool, card)}
    candidates = fitting(arguments.candidates, card, labelled=True)
    if arguments.shadow is None:
        return {"candidates": candidates, "shadow": candidates.take(slice(0))}
    return {"candidates": candidates, "shadow": fitting(arguments.shadow, card, labelled=True)}


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--out {out}: {error.strerror}; expected a folder that can be written to") from None


def _steal(attack: Extraction, oracle: Oracle, pool: Pool, out: Path, result: dict[str, Any]) -> None:
    surrogate = attack.extract(oracle, pool, np.random.default_rng(result["seed"]))
    about = {name: result[name] for name in ("attack", "settings", "seed")}
    folder.save(surrogate, out / "surrogate", **about, bill=_bill(oracle))


def _spy(attack: Membership, oracle: Oracle, candidates: Pool, shadow: Pool, out: Path, seed: int) -> None:
    assert candidates.y is not None
    scores = attack.infer(oracle, candidates.x, candidates.y, shadow, np.random.default_rng(seed))
    np.savez(out / "scores.npz", scores=scores, y=candidates.y)


def _ended(oracle: Oracle, budget: int) -> tuple[str, str | None]:
    """Tells whether the attack is done, which it also is with its budget, or was stopped, and by what."""
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


if __name__ == "__main__":
    run(main)
