"""Experiments: ``python -m experiments COMMAND``.

Each command is imported when it runs, so that ``--help`` loads no torch.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cli.command import Parser, run
from cli.flags import add_fields, at_least, from_fields
from cli.registry import outline
from experiments.claims import CLAIMS


def parser(prog: str = "python -m experiments") -> Parser:
    """Returns the parser of all commands; each sets ``run``, a function of the parsed arguments."""
    made = Parser(prog, description="Runs the parties against one another and measures them.")
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="serve, steal, spy, prove; write a report")
    demo.add_argument("--full", action="store_true", help="the papers' sizes, for an hour")
    demo.add_argument("--out", type=Path, default=Path("out"), help="folder for the report (default: out)")
    demo.add_argument("--dataset", help="name of a data set (default: fashion_mnist, or a dependency's digits)")
    demo.add_argument("--seed", type=at_least(0), default=0, help="seed of everything (default: 0)")
    _add_folders(demo)
    demo.set_defaults(run=_demo)

    report = commands.add_parser("report", help="render the report of a demo's results again")
    report.add_argument("results", type=Path, metavar="RESULTS.json", help="the results that a demo wrote")
    report.add_argument("--out", type=Path, default=Path("out"), help="folder for the report (default: out)")
    report.set_defaults(run=_report)

    draw = commands.add_parser("draw", help="draw what E2 or E10 found")
    draw.add_argument("results", type=Path, metavar="RESULTS.json", help="what `reproduce --json` wrote")
    draw.add_argument("out", type=Path, metavar="FILE", help="the figure: .svg or .png")
    draw.set_defaults(run=_draw)

    judge = commands.add_parser("judge", help="measure a membership attack's scores against the truth")
    judge.add_argument("scores", type=Path, help="the attack's scores.npz")
    judge.add_argument("truth", type=Path, help="truth.npz of the roles that the candidates belong to")
    judge.set_defaults(run=_judge)

    exposure = commands.add_parser(
        "exposure", help="measure how exposed suspected secrets of a language model are"
    )
    exposure.add_argument("likelihoods", type=Path, help="the attack's likelihoods.npz")
    exposure.add_argument("--digits", type=at_least(1), required=True, metavar="N", help="digits of a secret")
    exposure.set_defaults(run=_exposure)

    reproduce = commands.add_parser("reproduce", help="test published claims")
    reproduce.add_argument(
        "claims", nargs="+", choices=list(CLAIMS), metavar="CLAIM", help=f"any of {', '.join(CLAIMS)}"
    )
    reproduce.add_argument("--out", type=Path, help="folder for logs and stores (default: removed)")
    reproduce.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="FIELD=VALUE",
        help="other sizes than a claim's own, such as 'rows=[1000]'; results name them",
    )
    _add_seeds(reproduce)
    _add_folders(reproduce)
    _add_json(reproduce)
    reproduce.set_defaults(run=_reproduce)

    sybils = commands.add_parser("sybils", help="measure which accounts are flagged when a theft uses many keys")
    sybils.add_argument("--dataset", default="fashion_mnist", help="the victim's data (default: %(default)s)")
    sybils.add_argument(
        "--foreign", default="mnist_digits", help="natural images of another kind (default: %(default)s)"
    )
    _add_seeds(sybils)
    _add_folders(sybils)
    _add_json(sybils)
    sybils.set_defaults(run=_sybils)

    campaigns = commands.add_parser(
        "campaigns", help="measure what detectors find, whom they accuse, and what evading them costs, on one log"
    )
    add_fields(campaigns, outline("experiments.studies.campaigns:Campaigns"))
    _add_seeds(campaigns)
    _add_folders(campaigns)
    _add_json(campaigns)
    campaigns.add_argument("--results", type=Path, metavar="FILE", help="print these, and run nothing")
    campaigns.set_defaults(run=_campaigns)

    suspects = commands.add_parser(
        "suspects", help="measure which suspects the twin test accuses, and falsely, over many victims"
    )
    add_fields(suspects, outline("experiments.studies.lotteries:Lotteries"))
    suspects.add_argument("--seed", type=at_least(1), default=101, help="seed of everything (default: 101)")
    suspects.add_argument(
        "--study",
        type=Path,
        metavar="FOLDER",
        help="folder of `prove prepare` on the roles of this seed: its victim and twins are the only lottery",
    )
    _add_folders(suspects)
    _add_json(suspects)
    suspects.set_defaults(run=_suspects)

    extraction = commands.add_parser("extraction", help="measure what each attack steals, by rows and by money")
    add_fields(extraction, outline("experiments.studies.extraction:Thefts"))
    extraction.add_argument("--out", type=Path, help="folder for logs and stores (default: removed)")
    extraction.add_argument("--plot", type=Path, metavar="FILE", help="draw the figures there, as PNG or SVG")
    extraction.add_argument("--results", type=Path, metavar="FILE", help="print and draw these, and run nothing")
    _add_folders(extraction)
    _add_json(extraction)
    extraction.set_defaults(run=_extraction)

    answers = commands.add_parser("answers", help="measure what changed answers cost customers and thieves")
    add_fields(answers, outline("experiments.studies.answer_defences:AnswerDefences"))
    answers.add_argument("--out", type=Path, help="folder for logs and stores (default: removed)")
    _add_folders(answers)
    _add_json(answers)
    answers.set_defaults(run=_answers)

    mapping = commands.add_parser("mapping", help="measure how alike DAWN's mappings treat near-duplicates")
    mapping.add_argument("--datasets", nargs="+", default=["fashion_mnist"], metavar="NAME", help="of grey images")
    mapping.add_argument("--keys", type=at_least(1), default=3, help="number of keys (default: 3)")
    mapping.add_argument("--rows", type=at_least(2), default=10_000, help="number of rows (default: 10000)")
    _add_folders(mapping)
    _add_json(mapping)
    mapping.set_defaults(run=_mapping)

    language = commands.add_parser("language", help="measure what a language model learns, and its watermark")
    add_fields(language, outline("experiments.studies.language:Language"))
    _add_seeds(language)
    _add_folders(language)
    _add_json(language)
    language.set_defaults(run=_language)

    encoders = commands.add_parser(
        "encoders", help="measure what embeddings give a thief, and what B4B leaves of it"
    )
    add_fields(encoders, outline("experiments.studies.encoders:Encoders"))
    _add_seeds(encoders)
    _add_folders(encoders)
    _add_json(encoders)
    encoders.set_defaults(run=_encoders)
    return made


def main(argv: Sequence[str] | None = None, prog: str = "python -m experiments") -> None:
    """Runs a command."""
    arguments = parser(prog).parse_args(argv)
    arguments.run(arguments)


def _add_seeds(command: argparse.ArgumentParser) -> None:
    command.add_argument("--seeds", type=at_least(1), default=3, metavar="N", help="seeds 0 to N - 1 (default: 3)")


def _add_folders(command: argparse.ArgumentParser) -> None:
    command.add_argument("--state", type=Path, help="folder that outlasts the run (MLAAS_STATE; default: state)")
    command.add_argument("--data", type=Path, help="folder that holds data sets (MLAAS_DATA)")


def _add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")


def _demo(arguments: argparse.Namespace) -> None:
    import time

    from experiments.demo.sizes import FULL, REDUCED
    from experiments.demo.trial import Trial
    from experiments.report.report import write
    from experiments.report.summary import summary

    start = time.perf_counter()
    protocol = FULL if arguments.full else REDUCED
    state, data = _folders(arguments)
    results = Trial(protocol, arguments.out, state, data, arguments.dataset, arguments.seed).run()
    path = write(results, arguments.out)
    for heading, line in summary(results):
        print(f"{heading}: {line}")
    print(f"The report is in {path} ({time.perf_counter() - start:.0f} s).")


def _report(arguments: argparse.Namespace) -> None:
    from experiments.report.report import read, write

    print(write(read(arguments.results), arguments.out))


def _draw(arguments: argparse.Namespace) -> None:
    from experiments.report.drawings import draw

    draw(json.loads(arguments.results.read_text()), arguments.out)


def _exposure(arguments: argparse.Namespace) -> None:
    from experiments.judge import exposed

    print(exposed(arguments.likelihoods, arguments.digits))


def _judge(arguments: argparse.Namespace) -> None:
    from experiments.judge import judged

    print(judged(arguments.scores, arguments.truth))


def _reproduce(arguments: argparse.Namespace) -> None:
    from experiments.claims.command import reproduce, sized, table

    state, data = _folders(arguments)
    results: dict[str, Any] = {}
    for name in dict.fromkeys(arguments.claims):
        claim = {name: sized(CLAIMS[name](), arguments.set)}
        one = reproduce(claim, out=arguments.out, cache=state / "cache", data=data, seeds=range(arguments.seeds))
        results = {**one, "claims": {**results.get("claims", {}), **one["claims"]}}
        _write_json(arguments.json, results)  # after each, since the next may fail after hours
    print(table(results))


def _sybils(arguments: argparse.Namespace) -> None:
    from experiments.studies.sybils import Splits, table

    state, data = _folders(arguments)
    splits = Splits(arguments.dataset, arguments.foreign)
    results = splits.run(range(arguments.seeds), data, state / "cache")
    _write_json(arguments.json, results)
    print(table(results))


def _campaigns(arguments: argparse.Namespace) -> None:
    from experiments.studies.campaigns import Campaigns, table

    if arguments.results is not None:
        print(table(json.loads(arguments.results.read_text())))
        return
    state, data = _folders(arguments)
    write = partial(_write_json, arguments.json)
    print(table(from_fields(Campaigns, arguments).run(range(arguments.seeds), data, state / "cache", write)))


def _suspects(arguments: argparse.Namespace) -> None:
    from experiments.studies.lotteries import Lotteries
    from experiments.studies.lotteries_table import table

    state, data = _folders(arguments)
    lotteries = from_fields(Lotteries, arguments)
    print(table(lotteries.run(arguments.seed, data, state / "cache", arguments.json, arguments.study)))


def _extraction(arguments: argparse.Namespace) -> None:
    from experiments.studies.extraction import Thefts, read, table

    if arguments.results is not None:
        results = read(arguments.results)
    else:
        state, data = _folders(arguments)
        write = partial(_write_json, arguments.json)
        results = from_fields(Thefts, arguments).run(arguments.out, state / "cache", data, write)
    if arguments.plot is not None:
        from experiments.studies.extraction_plot import plot

        plot(results, arguments.plot)
    print(table(results))


def _answers(arguments: argparse.Namespace) -> None:
    from experiments.studies.answer_defences import AnswerDefences, table

    state, data = _folders(arguments)
    write = partial(_write_json, arguments.json)
    print(table(from_fields(AnswerDefences, arguments).run(arguments.out, state / "cache", data, write)))


def _mapping(arguments: argparse.Namespace) -> None:
    from experiments.studies.mapping import Mapping, table

    state, data = _folders(arguments)
    mapping = Mapping(tuple(arguments.datasets), arguments.keys, rows=arguments.rows)
    results = mapping.run(data, state / "cache")
    _write_json(arguments.json, results)
    print(table(results))


def _language(arguments: argparse.Namespace) -> None:
    from experiments.studies.language import Language, table

    state, data = _folders(arguments)
    write = partial(_write_json, arguments.json)
    print(table(from_fields(Language, arguments).run(range(arguments.seeds), data, state / "cache", write)))


def _encoders(arguments: argparse.Namespace) -> None:
    from experiments.studies.encoders import Encoders, table

    state, data = _folders(arguments)
    write = partial(_write_json, arguments.json)
    print(table(from_fields(Encoders, arguments).run(range(arguments.seeds), data, state / "cache", write)))


def _folders(arguments: argparse.Namespace) -> tuple[Path, Path | None]:
    """Returns the lasting folder and the data folder, both absolute, since parties run in folders of their own."""
    from zoo.cache import state_folder
    from zoo.data import data_folder

    data = data_folder(arguments.data)
    return state_folder(arguments.state).resolve(), data and data.resolve()


def _write_json(path: Path | None, results: dict[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    run(main)
