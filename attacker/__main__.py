"""Attacks a served model: ``python -m attacker NAME --url ... --key ... --budget N --out FOLDER``."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from attacker import ATTACKS, EXTRACTION
from attacker.asking import fitting
from attacker.recording import Recording
from attacker.runner import conduct
from cli.command import Parser, run
from cli.flags import add_endpoint, add_fields, at_least, from_fields, summary
from cli.keys import read_key
from cli.money import MICRO
from wire import BadInput, Card
from wire.http import CardOptions
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
    with closing(endpoint):
        result = conduct(
            arguments.attack,
            attack,
            endpoint,
            _pools(arguments, endpoint.card),
            budget=arguments.budget,
            patience=arguments.patience,
            seed=arguments.seed,
            out=_made(arguments.out),
        )
    reason = f": {result['reason']}" if result["reason"] else ""
    money = "" if result["money"] is None else f", {result['money'] / MICRO:.4f} spent"
    print(f"{result['status']}{reason}; {result['rows']} rows{money}; see {arguments.out}")


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
        command.add_argument("--budget", type=at_least(1), required=True, help="most rows to ask about")
        command.add_argument("--out", type=Path, required=True, help="folder for what the attack leaves")
        command.add_argument("--seed", type=at_least(0), default=0, help="seed of all randomness (default: 0)")
        if name in EXTRACTION:
            command.add_argument(
                "--pool", type=Path, default="pool.npz", help="file of rows to draw from (default: %(default)s)"
            )
        else:
            command.add_argument(
                "--candidates",
                type=Path,
                default="candidates.npz",
                help="file of the rows to judge, with their true labels (default: %(default)s)",
            )
            command.add_argument(
                "--shadow", type=Path, help="file of labelled rows like the candidates, to train shadow models on"
            )
        add_fields(command.add_argument_group("settings of the attack"), cls)  # type: ignore[arg-type]
        add_endpoint(command)
    return parser


def _pools(arguments: argparse.Namespace, card: Card) -> dict[str, Pool]:
    """Reads and checks the attacker's files before anything is spent."""
    if arguments.attack in EXTRACTION:
        return {"pool": fitting(arguments.pool, card)}
    candidates = fitting(arguments.candidates, card, labelled=True)
    if arguments.shadow is None:
        return {"candidates": candidates, "shadow": candidates.take(slice(0))}
    return {"candidates": candidates, "shadow": fitting(arguments.shadow, card, labelled=True)}


def _made(out: Path) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--out {out}: {error.strerror}; expected a folder that can be written to") from None
    return out


if __name__ == "__main__":
    run(main)
