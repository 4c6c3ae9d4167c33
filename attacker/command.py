"""``mlaas-range attack`` and ``python -m attacker``: attacks a served model, or evaluates a stolen copy."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attacker import ATTACKS, EXTRACTION, INVERSION, LANGUAGE
from cli.command import Parser
from cli.endpoint import add_endpoint, reach
from cli.flags import add_fields, at_least, description, from_fields, summary
from cli.registry import outline

if TYPE_CHECKING:
    from wire import Card
    from zoo.data.pool import Pool
    from zoo.exact_interval import Interval


POOL = Path("pool.npz")
TRANSPORTS = "attacker.transports.transports:Transports"


def main(argv: Sequence[str] | None = None, prog: str = "python -m attacker") -> None:
    """Runs one attack, and writes its surrogate or scores and a ``result.json`` to a folder."""
    from attacker.language import command as language

    parser = Parser(prog, description="Attacks a served model, or evaluates a stolen copy.")
    commands = parser.add_subparsers(dest="attack", required=True, metavar="NAME")
    for registry, add, run in ((ATTACKS, _add_attack, _attack), (LANGUAGE, language.add, language.attack)):
        for name in registry:
            cls = registry.outline(name)
            command = commands.add_parser(
                name,
                help=summary(cls),
                description=description(cls),
                formatter_class=argparse.RawDescriptionHelpFormatter,
                allow_abbrev=False,
                fill=partial(add, name=name, cls=cls),
            )
            command.set_defaults(run=run)
    about = "Measure how often a stolen copy and its victim give the same label."
    command = commands.add_parser(
        "agreement", help=about, description=about, allow_abbrev=False, fill=_add_agreement
    )
    command.set_defaults(run=_agreement)
    arguments = parser.parse_args(argv)
    arguments.run(arguments)


def add_run(command: Parser, budget: str) -> None:
    """Adds the flags of every attack.

    Args:
        command: The parser.
        budget: What the budget counts.
    """
    command.add_argument("--budget", type=at_least(1), required=True, metavar="N", help=budget)
    command.add_argument("--out", type=Path, required=True, metavar="PATH", help="folder for the results")
    command.add_argument(
        "--seed", type=at_least(0), default=0, metavar="N", help="seed of all randomness (default: 0)"
    )


def _add_attack(command: Parser, name: str, cls: type) -> None:
    add_run(command, "maximum number of rows to query")
    if name in EXTRACTION:
        command.add_argument(
            "--pool",
            type=Path,
            metavar="PATH",
            help=f"file of rows to draw queries from (default: {POOL}, if there is one)",
        )
    elif name in INVERSION:
        command.add_argument(
            "--label", type=at_least(0), required=True, metavar="N", help="index of the class to reconstruct"
        )
    else:
        command.add_argument(
            "--candidates",
            type=Path,
            metavar="PATH",
            default="candidates.npz",
            help="file of rows whose membership to infer, with true labels (default: %(default)s)",
        )
        command.add_argument(
            "--shadow",
            type=Path,
            metavar="PATH",
            help="file of labelled rows from the candidates' distribution, to train shadow models on",
        )
    add_fields(command.add_argument_group("settings of the attack"), cls)
    add_fields(command.add_argument_group("how its rows travel"), outline(TRANSPORTS))
    add_endpoint(command)


def _add_agreement(command: Parser) -> None:
    command.add_argument("copy", type=Path, help="folder of the copy, such as OUT/surrogate")
    command.add_argument(
        "--rows", type=Path, required=True, metavar="PATH", help="file of rows that neither model was trained on"
    )
    command.add_argument(
        "--budget", type=at_least(1), metavar="N", help="number of rows to query, from the first (default: all)"
    )
    add_endpoint(command)


def _attack(arguments: argparse.Namespace) -> None:
    from attacker.runner import conduct
    from attacker.transports.transports import Transports
    from attacker.transports.ways import client, ways
    from cli.keys import read_keys

    attack, out = from_fields(ATTACKS[arguments.attack], arguments), arguments.out
    transports = from_fields(Transports, arguments)
    keys = [None] if transports.keys is None else read_keys(transports.keys)
    places = [None] if transports.from_prefixes is None else ways(transports.from_prefixes)
    with ExitStack() as stack:
        endpoints = [
            stack.enter_context(closing(reach(arguments, key=key, client=None if way is None else client(way))))
            for key, way in zip(keys, cycle(places), strict=False)
        ]
        pools = _pools(arguments, endpoints[0].card)
        begin(out)
        try:
            result = conduct(
                arguments.attack,
                attack,
                endpoints,
                pools,
                transports=transports,
                budget=arguments.budget,
                patience=arguments.patience,
                seed=arguments.seed,
                out=out,
                label=getattr(arguments, "label", 0),
            )
        except BaseException:
            say_rescued(out)
            raise
    print(_outcome(result, out))


def _agreement(arguments: argparse.Namespace) -> None:
    from attacker.agreement import measure
    from attacker.asking import fitting
    from cli.meter import metered
    from cli.money import in_currency
    from wire import BadInput
    from wire.fits import misfit
    from zoo import folder

    copy = folder.load(arguments.copy)
    with closing(reach(arguments)) as endpoint:
        if endpoint.card.embedding:
            raise BadInput(f"{endpoint.model} answers embeddings, not labels that a copy could agree with")
        pool = fitting(arguments.rows, endpoint.card).take(slice(arguments.budget))
        if wrong := misfit(pool.x, copy.card()):
            raise BadInput(f"{arguments.copy} does not take these rows: {wrong}")
        with metered(endpoint, budget=len(pool), patience=arguments.patience, label="agreement") as oracle:
            found = measure(copy, oracle, pool.x, pool.y)
    names = copy.card().class_names
    print(f"agreement with {endpoint.model}: {_interval(found.agreement)}, on {oracle.spent} rows")
    print(
        f"  a constant answer of {names[found.label] if found.label < len(names) else found.label} would have "
        f"agreement {found.constant.rate:.4f}"
    )
    if found.copy_accuracy is not None and found.victim_accuracy is not None:
        print(f"  accuracy of the copy: {_interval(found.copy_accuracy)}")
        print(f"  accuracy of the victim: {_interval(found.victim_accuracy)}")
    if oracle.ended is not None:
        print(f"  stopped early: {oracle.ended}")
    if oracle.money is not None:
        print(f"  {in_currency(oracle.money)} spent")


def _interval(share: Interval) -> str:
    return f"{share.rate:.4f} (95 % interval {share.low:.4f} to {share.high:.4f})"


def _outcome(result: dict[str, Any], out: Path) -> str:
    """Describes how an attack ended, its output files and the next step."""
    from cli.money import in_currency

    reason = f" ({result['reason']})" if result["reason"] else ""
    money = "" if result["money"] is None else f", {in_currency(result['money'])} spent"
    lines = [f"{result['status']}{reason}: {result['rows']} rows answered{money}"]
    url, model = result["endpoint"]["url"], result["endpoint"]["model"]
    copy, transfer, scores = out / "surrogate", out / "transfer.npz", out / "scores.npz"
    if copy.exists():
        lines += [f"{copy}: the copy; {transfer}: the rows and answers it was trained on"]
        words = ["mlaas-range", "attack", "agreement", str(copy), "--rows", "FILE", "--url", url, "--model", model]
        lines += [f"next: {shlex.join(words)}"]
    if (out / "inverted.npz").exists():
        lines += [f"{out / 'inverted.npz'}: the row that stands for the class"]
    if scores.exists():
        lines += [f"{scores}: a score for each candidate, higher for members"]
        lines += [f"next: {shlex.join(['mlaas-range', 'experiments', 'judge', str(scores), 'truth.npz'])}"]
    return "\n".join(lines)


def begin(out: Path) -> None:
    """Makes the folder of results, and saves the answers of an earlier run that was killed."""
    from wire import BadInput

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--out {out}: {error.strerror}; expected a writable folder") from None
    say_rescued(out)


def say_rescued(out: Path) -> None:
    """Saves the answers of an interrupted run, and says where."""
    from attacker.results import rescue

    if (rescued := rescue(out)) is not None:
        print(f"{rescued.path}: {rescued.what} of an interrupted run", file=sys.stderr)


def _pools(arguments: argparse.Namespace, card: Card) -> dict[str, Pool]:
    """Reads and checks the attacker's files before the first query."""
    import numpy as np

    from attacker.asking import fitting
    from wire import BadInput
    from zoo.data.pool import Pool, texts

    if arguments.attack in INVERSION:
        if card.classes and arguments.label >= card.classes:
            raise BadInput(f"--label {arguments.label}: the model has the classes 0 to {card.classes - 1}")
        return {}
    if arguments.attack in EXTRACTION:
        if arguments.pool is None and not POOL.exists():
            none = np.empty((0, *card.input_shape), np.float32)
            return {"pool": Pool(texts([]) if card.dtype == "BYTES" else none)}
        return {"pool": fitting(arguments.pool or POOL, card)}
    candidates = fitting(arguments.candidates, card, labelled=True)
    if arguments.shadow is None:
        return {"candidates": candidates, "shadow": candidates.take(slice(0))}
    return {"candidates": candidates, "shadow": fitting(arguments.shadow, card, labelled=True)}
