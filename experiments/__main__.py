"""``python -m experiments demo``: all parties against one another; ``report``: the same at the papers' sizes.

``sybils`` who is accused of thefts that are split over many keys; ``reproduce`` puts published claims to the test;
``mapping`` tells how alike DAWN marks near-duplicates.
"""

from __future__ import annotations

import argparse
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cli.command import Parser, run
from cli.flags import at_least
from experiments import metrics
from experiments.claims import command as reproduce
from experiments.demo.sizes import FULL, REDUCED
from experiments.demo.trial import Trial
from experiments.report.report import write
from experiments.studies import mapping, sybils
from wire import BadInput
from zoo.cache import state_folder
from zoo.data import data_folder


def main(argv: Sequence[str] | None = None, prog: str = "python -m experiments") -> None:
    """Runs a trial and writes its report."""
    parser = Parser(prog, description="Runs all parties against one another and writes a report.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, protocol, about in (
        ("demo", REDUCED, "serve, steal, spy, prove, at reduced sizes"),
        ("report", FULL, "the same at the papers' own sizes"),
    ):
        command = commands.add_parser(name, help=about)
        command.add_argument("--out", type=Path, default=Path("out"), help="folder for the report (default: out)")
        command.add_argument(
            "--state", type=Path, help="folder that outlasts the run (MLAAS_STATE; default: state)"
        )
        command.add_argument("--data", type=Path, help="folder where data sets lie (MLAAS_DATA)")
        command.add_argument(
            "--dataset", help="name of a data set (default: fashion_mnist, or a dependency's digits)"
        )
        command.add_argument("--seed", type=at_least(0), default=0, help="seed of everything (default: 0)")
        command.set_defaults(protocol=protocol)
        command.set_defaults(run=_trial)
    judge = commands.add_parser("judge", help="tell what a membership attack's scores are worth")
    judge.add_argument("scores", type=Path, help="the attack's scores.npz")
    judge.add_argument("truth", type=Path, help="truth.npz, of the roles whose candidates were attacked")
    judge.set_defaults(run=_judge)
    splitting = commands.add_parser("sybils", help="measure who is accused of a theft split over many keys")
    sybils.add(splitting)
    splitting.set_defaults(run=lambda arguments: print(sybils.run(arguments)))
    claims = commands.add_parser("reproduce", help="put published claims to the test, beside what was published")
    reproduce.add(claims)
    claims.set_defaults(run=lambda arguments: print(reproduce.run(arguments)))
    alike = commands.add_parser("mapping", help="measure how alike DAWN's mappings mark near-duplicates")
    mapping.add(alike)
    alike.set_defaults(run=lambda arguments: print(mapping.run(arguments)))
    arguments = parser.parse_args(argv)
    arguments.run(arguments)


def _judge(arguments: argparse.Namespace) -> None:
    try:
        with np.load(arguments.scores, allow_pickle=False) as saved, np.load(arguments.truth) as truth:
            scores, member = saved["scores"], truth["member"]
    except (KeyError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        raise BadInput(
            f"{arguments.scores} and {arguments.truth}: expected scores and a truth (npz): {error}"
        ) from None
    if scores.shape != member.shape:
        raise BadInput(
            f"{len(scores)} scores, but the truth about {len(member)} candidates: they are not of one draw"
        )
    told = member[~np.isnan(scores)]
    if told.all() or not told.any():
        raise BadInput("the scored candidates are not of both kinds, members and others; ask about more rows")
    worth = metrics.membership(scores, member)
    print(f"{worth['members']} members and {worth['others']} others answered")
    print(f"AUC {worth['auc']:.4f} (standard error {worth['auc_error']:.4f}; chance 0.5)")
    print(f"best balanced accuracy {worth['balanced_accuracy']:.4f}")
    for fpr, (rate, low, high) in worth["tpr_at"].items():
        print(f"TPR at {float(fpr):.1%} FPR: {rate:.4f} (95 % interval {low:.4f} to {high:.4f})")


def _trial(arguments: argparse.Namespace) -> None:
    start = time.perf_counter()
    trial = Trial(
        arguments.protocol,
        arguments.out,
        state_folder(arguments.state),
        data_folder(arguments.data),
        arguments.dataset,
        arguments.seed,
    )
    results = trial.run()
    path = write(results, arguments.out)
    print(f"{path} ({time.perf_counter() - start:.0f} s)")


if __name__ == "__main__":
    run(main)
