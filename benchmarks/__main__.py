"""Speed: ``python -m benchmarks serving`` (beside others), ``detectors`` (the cost of watching) and ``gpu``.

Each command is imported when it runs, so that ``--help`` loads no torch.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from cli.command import Parser, run
from cli.flags import add_fields, at_least, from_fields
from cli.registry import outline

# The parts of ``serving``, as :data:`benchmarks.serving.cases.PARTS` defines them; help loads none of that.
PARTS = ("headline", "open-loop", "connections", "victims", "workers", "history", "engines", "rivals")
GPU_PHASES = ("served", "forwards", "workers")


def parser(prog: str = "python -m benchmarks") -> Parser:
    """Returns the parser of all commands; each sets ``run``, a function of the parsed arguments."""
    made = Parser(prog, description="Measures how fast the server and its detectors are.")
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")

    serving = commands.add_parser("serving", help="time the server beside raw forward passes and other servers")
    serving.add_argument("--install", action="store_true", help="only install the other servers")
    serving.add_argument(
        "--cache",
        type=Path,
        help="folder of the other servers and of the networks (default: ~/.cache/mlaas-range)",
    )
    serving.add_argument("--rounds", type=at_least(1), default=5, help="rounds over everything (default: 5)")
    serving.add_argument("--seconds", type=float, default=5.0, help="length of a measurement (default: 5)")
    serving.add_argument(
        "--part",
        nargs="+",
        default=(),
        choices=PARTS,
        metavar="PART",
        help=f"only these of {', '.join(PARTS)}; headline takes 6 minutes, all take 40",
    )
    serving.add_argument(
        "--only", nargs="+", default=(), metavar="WORD", help="only measurements whose name contains one of these"
    )
    serving.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    serving.add_argument("--plot", type=Path, metavar="FILE", help="draw courses there, as PNG or SVG")
    serving.set_defaults(run=_serving)

    detectors = commands.add_parser("detectors", help="time detectors beside a matrix product and a plain loop")
    many = {"nargs": "+", "type": at_least(1), "metavar": "N"}
    detectors.add_argument("--features", default=(784, 3072), help="features of a row", **many)  # type: ignore[arg-type]
    detectors.add_argument("--history", default=(1_000, 10_000, 50_000), help="rows kept before", **many)  # type: ignore[arg-type]
    detectors.add_argument("--rows", default=(1, 64), help="rows of a request (default: 1 and 64)", **many)  # type: ignore[arg-type]
    detectors.add_argument("--classes", type=at_least(1), default=10, help="classes (default: 10)")
    detectors.add_argument("--rounds", type=at_least(1), default=9, help="rounds (default: 9)")
    detectors.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    detectors.set_defaults(run=_detectors)

    attacks = commands.add_parser("attacks", help="time Knockoff beside the Adversarial Robustness Toolbox")
    add_fields(attacks, outline("benchmarks.attacks:Attacks"))
    attacks.add_argument("--install", action="store_true", help="only install the toolbox")
    attacks.add_argument(
        "--cache", type=Path, help="folder of the toolbox and of the victims (default: ~/.cache/mlaas-range)"
    )
    attacks.add_argument("--data", type=Path, help="folder that holds data sets (MLAAS_DATA)")
    attacks.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    attacks.set_defaults(run=_attacks)

    marks = commands.add_parser("marks", help="whether the time of an answer tells that DAWN marked it")
    add_fields(marks, outline("benchmarks.mark_timing:Marks"))
    marks.add_argument("--cache", type=Path, help="folder of exported models (default: ~/.cache/mlaas-range)")
    marks.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    marks.set_defaults(run=_marks)

    flood = commands.add_parser("flood", help="a client's latency beside floods of small, costly requests")
    add_fields(flood, outline("benchmarks.flood:Flood"))
    flood.add_argument("--cache", type=Path, help="folder of exported models (default: ~/.cache/mlaas-range)")
    flood.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    flood.set_defaults(run=_flood)

    generation = commands.add_parser("generation", help="tokens a second of a language model, beside a plain loop")
    add_fields(generation, outline("benchmarks.generation:Generation"))
    generation.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    generation.set_defaults(run=_generation)

    gpu = commands.add_parser("gpu", help="check passes, server and workers on a GPU, in ten minutes")
    gpu.add_argument("--seconds", type=float, default=2.0, help="length of a measurement (default: 2)")
    gpu.add_argument(
        "--phase", nargs="+", choices=GPU_PHASES, default=GPU_PHASES, help="only these (default: all)"
    )
    gpu.add_argument("--json", type=Path, metavar="FILE", help="write all figures there, one after the other")
    gpu.set_defaults(run=_gpu)
    return made


def main(argv: Sequence[str] | None = None, prog: str = "python -m benchmarks") -> None:
    """Runs a benchmark and prints its table."""
    arguments = parser(prog).parse_args(argv)
    arguments.run(arguments)


def _serving(arguments: argparse.Namespace) -> None:
    from wire import BadInput

    if not 0.1 <= arguments.seconds <= 600:
        raise BadInput(f"--seconds {arguments.seconds:g}: expected 0.1 to 600")
    cache = _cache(arguments)
    if arguments.install:
        from benchmarks.serving import environments

        environments.install(cache)
        return
    from benchmarks.serving.rounds import Bench
    from benchmarks.serving.table import table

    results = Bench(cache, arguments.rounds, arguments.seconds, arguments.part, arguments.only).run()
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    if arguments.plot is not None:
        from benchmarks.serving.plot import plot

        plot(results, arguments.plot)
    print(table(results))


def _cache(arguments: argparse.Namespace) -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(arguments.cache or home / "mlaas-range")


def _attacks(arguments: argparse.Namespace) -> None:
    from benchmarks.attacks import Attacks, install, table
    from zoo.data import data_folder

    cache = _cache(arguments)
    if arguments.install:
        install(cache)
        return
    results = from_fields(Attacks, arguments).run(cache, data_folder(arguments.data))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))


def _marks(arguments: argparse.Namespace) -> None:
    from benchmarks.mark_timing import Marks, table

    results = from_fields(Marks, arguments).run(_cache(arguments))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))


def _flood(arguments: argparse.Namespace) -> None:
    from benchmarks.flood import Flood, table

    results = from_fields(Flood, arguments).run(_cache(arguments))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))


def _generation(arguments: argparse.Namespace) -> None:
    from benchmarks.generation import Generation, table

    results = from_fields(Generation, arguments).run()
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))


def _detectors(arguments: argparse.Namespace) -> None:
    from benchmarks import detectors

    print(detectors.run(arguments))


def _gpu(arguments: argparse.Namespace) -> None:
    import torch

    from wire import BadInput

    if not 0.1 <= arguments.seconds <= 60:
        raise BadInput(f"--seconds {arguments.seconds:g}: expected 0.1 to 60")
    if not torch.cuda.is_available():
        raise BadInput("this machine has no GPU with CUDA, or torch is built without it")
    from benchmarks.gpu.check import PHASES, Check

    phases = {name: PHASES[name] for name in arguments.phase}
    from benchmarks.gpu.table import table

    print(table(Check(arguments.seconds, arguments.json, phases).run()))


if __name__ == "__main__":
    run(main)
