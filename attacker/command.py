"""``mlaas-range attack`` and ``python -m attacker``: attacks a served model, and says what the copy is worth."""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attacker import ATTACKS, EXTRACTION
from cli.command import Parser
from cli.endpoint import add_endpoint, reach
from cli.flags import add_fields, at_least, from_fields, summary

if TYPE_CHECKING:
    from wire import Card
    from zoo.data.pool import Pool


def main(argv: Sequence[str] | None = None, prog: str = "python -m attacker") -> None:
    """Runs one attack; leaves its surrogate or its scores, and a ``result.json``, in a folder."""
    parser = Parser(prog, description="Attacks a served model.")
    commands = parser.add_subparsers(dest="attack", required=True, metavar="NAME")
    for name in ATTACKS:
        cls = ATTACKS.outline(name)
        command = commands.add_parser(
            name,
            help=summary(cls),
            description=(inspect.getdoc(cls) or "").partition("Attributes:")[0],
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        _add_attack(command, name, cls)
    arguments = parser.parse_args(argv)
    _attack(arguments)


def _add_attack(command: argparse.ArgumentParser, name: str, cls: type) -> None:
    command.add_argument("--budget", type=at_least(1), required=True, metavar="N", help="most rows to ask about")
    command.add_argument("--out", type=Path, required=True, metavar="PATH", help="folder for the results")
    command.add_argument(
        "--seed", type=at_least(0), default=0, metavar="N", help="seed of all randomness (default: 0)"
    )
    if name in EXTRACTION:
        command.add_argument(
            "--pool",
            type=Path,
            metavar="PATH",
            default="pool.npz",
            help="file of rows to draw from (default: %(default)s)",
        )
    else:
        command.add_argument(
            "--candidates",
            type=Path,
            metavar="PATH",
            default="candidates.npz",
            help="file of the rows to judge, with their true labels (default: %(default)s)",
        )
        command.add_argument(
            "--shadow",
            type=Path,
            metavar="PATH",
            help="file of labelled rows like the candidates, to train shadow models on",
        )
    add_fields(command.add_argument_group("settings of the attack"), cls)
    add_endpoint(command)


def _attack(arguments: argparse.Namespace) -> None:
    from attacker.runner import conduct, rescue

    attack, out = from_fields(ATTACKS[arguments.attack], arguments), arguments.out
    with closing(reach(arguments)) as endpoint:
        pools = _pools(arguments, endpoint.card)
        _make(out)
        _say_rescued(rescue(out))  # of an earlier run that was killed
        try:
            result = conduct(
                arguments.attack,
                attack,
                endpoint,
                pools,
                budget=arguments.budget,
                patience=arguments.patience,
                seed=arguments.seed,
                out=out,
            )
        except BaseException:
            _say_rescued(rescue(out))
            raise
    print(_outcome(result, out))


def _outcome(result: dict[str, Any], out: Path) -> str:
    """Says how an attack ended, what it left and what to do next."""
    from cli.money import in_currency

    reason = f" ({result['reason']})" if result["reason"] else ""
    money = "" if result["money"] is None else f", {in_currency(result['money'])} spent"
    lines = [f"{result['status']}{reason}: {result['rows']} rows answered{money}"]
    endpoint = f"--url {result['endpoint']['url']} --model {result['endpoint']['model']}"
    if (out / "surrogate").exists():
        lines += [
            f"{out / 'surrogate'}: the copy; {out / 'transfer.npz'}: the rows and answers it was trained on",
            f"next: mlaas-range attack agreement {out / 'surrogate'} --rows FILE {endpoint}",
        ]
    if (out / "scores.npz").exists():
        lines += [
            f"{out / 'scores.npz'}: a score for each candidate, higher for members",
            f"next: mlaas-range experiments judge {out / 'scores.npz'} truth.npz",
        ]
    return "\n".join(lines)


def _say_rescued(rescued: tuple[int, Path] | None) -> None:
    if rescued is not None:
        rows, path = rescued
        print(f"{path}: {rows} answered rows of a run that was cut short", file=sys.stderr)


def _pools(arguments: argparse.Namespace, card: Card) -> dict[str, Pool]:
    """Reads and checks the attacker's files before anything is spent."""
    from attacker.asking import fitting

    if arguments.attack in EXTRACTION:
        return {"pool": fitting(arguments.pool, card)}
    candidates = fitting(arguments.candidates, card, labelled=True)
    if arguments.shadow is None:
        return {"candidates": candidates, "shadow": candidates.take(slice(0))}
    return {"candidates": candidates, "shadow": fitting(arguments.shadow, card, labelled=True)}


def _make(out: Path) -> None:
    from wire import BadInput

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--out {out}: {error.strerror}; expected a folder that can be written to") from None
