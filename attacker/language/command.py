"""``mlaas-range attack NAME`` for language models: flags, files, and how an attack ended."""

from __future__ import annotations

import argparse
import shlex
from contextlib import closing
from pathlib import Path
from typing import Any

from attacker import HELD, LANGUAGE
from attacker.command import add_run, begin, say_rescued
from cli.command import Parser
from cli.endpoint import add_completions, reach_completions
from cli.flags import add_fields, from_fields


def add(command: Parser, name: str, cls: type) -> None:
    """Adds the flags of an attack on a language model."""
    add_run(command, "maximum number of tokens to spend, of prompts and completions together")
    command.add_argument(
        "--money",
        type=_positive,
        metavar="X",
        help="maximum amount to spend, in units of the currency (default: no limit)",
    )
    if name in HELD:
        add_fields(command.add_argument_group("what the attacker holds"), HELD.outline(name))
    add_fields(command.add_argument_group("settings of the attack"), cls)
    add_completions(command)


def _positive(text: str) -> float:
    try:
        if 0 < (number := float(text)) < float("inf"):
            return number
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not a positive amount")


def attack(arguments: argparse.Namespace) -> None:
    """Runs an attack, and prints how it ended."""
    from attacker.language.runner import conduct

    name, out = arguments.attack, arguments.out
    method = from_fields(LANGUAGE[name], arguments)
    held = from_fields(HELD[name], arguments).read() if name in HELD else ()
    with closing(reach_completions(arguments)) as endpoint:
        begin(out)
        try:
            result = conduct(
                name,
                method,
                endpoint,
                held,
                budget=arguments.budget,
                money=arguments.money,
                patience=arguments.patience,
                seed=arguments.seed,
                out=out,
            )
        except BaseException:
            say_rescued(out)
            raise
    print(_outcome(result, out))


def _outcome(result: dict[str, Any], out: Path) -> str:
    """Describes how an attack ended, and its output files."""
    from cli.money import in_currency

    reason = f" ({result['reason']})" if result["reason"] else ""
    money = "" if result["money"] is None else f", {in_currency(result['money'])} spent"
    tokens = result["tokens"]
    lines = [
        f"{result['status']}{reason}: {tokens['prompt']} tokens of prompts and {tokens['completion']} of "
        f"completions answered{money}"
    ]
    lines += [f"{out / name}: {what}" for name, what in LEFT.items() if (out / name).exists()]
    if (out / "likelihoods.npz").exists():
        digits = str(result["settings"]["digits"])
        words = ["mlaas-range", "experiments", "exposure", str(out / "likelihoods.npz"), "--digits", digits]
        lines += [f"next: {shlex.join(words)}"]
    return "\n".join(lines)


LEFT = {
    "student": "the student, a folder that can be served",
    "output_layer.npz": "the singular values of the logits, their rank, the width, and the output matrix",
    "likelihoods.npz": "the log-likelihoods of the suspected secrets, and of others",
    "guesses.json": "the likeliest secrets after each beginning, the likeliest first",
    "transfer.jsonl": "what was asked and told",
}
"""What attacks leave, by the name of the file."""
