"""``mlaas-range prove`` and ``python -m owner``: tests whether a served model was made from yours."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from cli.command import Parser
from cli.endpoint import add_card_options, add_endpoint
from cli.flags import add_fields, add_quiet, at_least, summary
from cli.registry import resolve
from owner import PROOFS


def main(argv: Sequence[str] | None = None, prog: str = "python -m owner") -> None:
    """Runs a proof."""
    parser = Parser(prog, description="Tests whether a served model was made from yours.")
    proofs = parser.add_subparsers(dest="proof", required=True, metavar="PROOF")
    for name in PROOFS:
        fill = METHODS.get(name, partial(_add_study_test, name))
        about = summary(PROOFS.outline(name))
        proofs.add_parser(name, help=about, description=about, fill=fill)
    for name, (about, fill) in OTHERS.items():
        proofs.add_parser(name, help=about, description=about, fill=fill)
    arguments = parser.parse_args(argv)
    print(resolve(VERBS.get(arguments.proof, "owner.runner:prove"))(arguments))


def _add_dataset_inference(parser: Parser) -> None:
    add_endpoint(parser)
    group = parser.add_argument_group("the victim")
    group.add_argument("--victim", dest="victim_url", metavar="URL", required=True, help="the victim's URL")
    group.add_argument("--victim-model", help="name of the model; not needed if the server has only one")
    group.add_argument(
        "--victim-key",
        default=os.environ.get("MLAAS_VICTIM_KEY"),
        help="API key of the victim's server (MLAAS_VICTIM_KEY; default: --key)",
    )
    add_card_options(group, "victim_")
    parser.add_argument(
        "--private",
        type=Path,
        default="private.npz",
        help="file of images that the victim was trained on (default: %(default)s)",
    )
    parser.add_argument(
        "--unseen",
        type=Path,
        default="unseen.npz",
        help="file of images that no model was trained on (default: %(default)s)",
    )
    parser.add_argument("--out", type=Path, required=True, help="file for the evidence (JSON)")
    parser.add_argument(
        "--features",
        type=Path,
        help="file that keeps the victim's features (npz), so that further suspects need no queries to the victim",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of all randomness (default: 0)")
    add_fields(parser.add_argument_group("the method"), PROOFS.outline("dataset-inference"))


def _add_prepare(parser: Parser) -> None:
    parser.add_argument(
        "--victim", type=Path, required=True, metavar="FOLDER", help="folder of the victim, as it is served"
    )
    parser.add_argument(
        "--private",
        type=Path,
        default="private.npz",
        help="file of the rows that the victim was trained on (default: %(default)s)",
    )
    parser.add_argument(
        "--unseen",
        type=Path,
        help="file of rows that were separated from the private ones at random before the victim was trained; "
        "twins draw their rows from both files (default: twins are trained on the private rows)",
    )
    parser.add_argument(
        "--reference",
        type=Path,
        default="reference.npz",
        help="file of other rows, which train neither the victim nor a twin, to choose queries from "
        "(default: %(default)s)",
    )
    parser.add_argument("--study", type=Path, required=True, metavar="FOLDER", help="folder for the study")
    parser.add_argument(
        "--twins",
        type=at_least(2),
        default=15,
        metavar="N",
        help="number of twins to train; with 99, the exact p-value reaches 1 %% (default: %(default)s)",
    )
    parser.add_argument(
        "--thefts",
        type=at_least(0),
        default=0,
        metavar="N",
        help="number of thefts to simulate, for selected-inference: 16 are advisable (default: %(default)s)",
    )
    parser.add_argument(
        "--beacon",
        metavar="NAME",
        help="name of a public value, not yet known, that will draw the victim among the given model and its "
        "twins (default: the given model is the victim)",
    )
    _add_jobs(parser)
    add_quiet(parser)
    for name, prefix in (("twin-test", ""), ("selected-inference", "selected_")):
        add_fields(parser.add_argument_group(f"{name}, to commit to"), PROOFS.outline(name), prefix)


def _add_judge(parser: Parser) -> None:
    parser.add_argument("evidence", type=Path, help="evidence file of a twin test or of selected inference")
    parser.add_argument(
        "--head",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="heads of the owner's log, as found where they were published: the one with the commitment, and "
        "later ones",
    )
    parser.add_argument(
        "--since",
        type=_date,
        metavar="DATE",
        help="when the suspect is first known to have existed, such as 2026-03-01; a commitment that is no older "
        "is refused",
    )
    parser.add_argument(
        "--authority",
        type=Path,
        metavar="FILE",
        help="certificates (PEM) of the authority that timestamped the head (default: rely on the owner's clock)",
    )
    parser.add_argument("--beacon", metavar="HEX", help="value of the beacon that draws the victim, as published")
    add_endpoint(parser)
    _add_study(parser)
    parser.add_argument(
        "--control",
        type=Path,
        metavar="FILE",
        help="the judge's own rows with labels, to train independent models on",
    )
    parser.add_argument(
        "--controls",
        type=at_least(1),
        default=8,
        metavar="N",
        help="number of independent models to train on them (default: %(default)s)",
    )
    parser.add_argument(
        "--independent",
        nargs="*",
        default=(),
        metavar="FOLDER|URL",
        help="further models known not to be stolen",
    )
    parser.add_argument("--independent-key", help="API key of the independent models' servers (default: --key)")
    _add_jobs(parser)
    parser.add_argument(
        "--retrain",
        type=at_least(0),
        default=2,
        metavar="N",
        help="number of twins, and of simulated thefts, to make again besides the victim (default: %(default)s)",
    )
    parser.add_argument(
        "--tries",
        type=at_least(1),
        default=1,
        metavar="N",
        help="number of suspects that the owner tested, if more than in the evidence",
    )
    parser.add_argument("--out", type=Path, required=True, help="file for the judgement (JSON)")


def _add_commit(parser: Parser) -> None:
    _add_study(parser)
    parser.add_argument(
        "--log",
        type=Path,
        default="log",
        metavar="FOLDER",
        help="folder of the owner's log and its key, begun if there is none (default: %(default)s)",
    )
    parser.add_argument(
        "--timestamp", metavar="URL", help="timestamping authority (RFC 3161) to show the signed head to"
    )


def _add_draw(parser: Parser) -> None:
    _add_study(parser)
    parser.add_argument("--value", required=True, metavar="HEX", help="the value of the beacon, in hexadecimal")


def _add_report(parser: Parser) -> None:
    parser.add_argument("evidence", type=Path, help="evidence file of a twin test or of selected inference")
    parser.add_argument(
        "--judgement", type=Path, metavar="FILE", help="judgement of this evidence, to show beside it"
    )
    parser.add_argument("--out", type=Path, required=True, help="file for the page (HTML)")


def _add_jobs(parser: Parser) -> None:
    parser.add_argument(
        "--jobs", type=at_least(1), metavar="N", help="number of processes that train (default: that of the cores)"
    )


def _date(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=datetime.fromisoformat(text).tzinfo or UTC)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a date such as 2026-03-01 or 2026-03-01T12:00"
        ) from None


def _add_study_test(name: str, parser: Parser) -> None:
    add_endpoint(parser)
    _add_study(parser)
    parser.add_argument(
        "--independent",
        nargs="*",
        default=(),
        metavar="FOLDER|URL",
        help="models known not to be stolen, to test beside the suspect",
    )
    parser.add_argument("--independent-key", help="API key of the independent models' servers (default: --key)")
    parser.add_argument(
        "--log",
        type=Path,
        metavar="FOLDER",
        help="the owner's log, whose receipt and signature a judge needs (default: none)",
    )
    parser.add_argument("--out", type=Path, required=True, help="file for the evidence (JSON)")
    add_fields(parser.add_argument_group("the method"), PROOFS.outline(name))


def _add_study(parser: Parser) -> None:
    parser.add_argument(
        "--study", type=Path, required=True, metavar="FOLDER", help="folder made by `mlaas-range prove prepare`"
    )


def _add_dawn(parser: Parser) -> None:
    parser.add_argument(
        "--marks",
        required=True,
        metavar="FILE|URL",
        help="the account's marks: a file with the answer of GET /admin/models/MODEL/marks/ACCOUNT, or its URL",
    )
    parser.add_argument(
        "--marks-key",
        default=os.environ.get("MLAAS_ADMIN_KEY"),
        help="administrator's key of that server (MLAAS_ADMIN_KEY)",
    )
    parser.add_argument(
        "--open",
        action="store_true",
        help="reveal the marks' key for a judge; anyone with the key can distinguish marked rows from others",
    )
    _add_verdict(parser)


def _add_judge_dawn(parser: Parser) -> None:
    parser.add_argument("evidence", type=Path, help="evidence file written by the owner's command")
    parser.add_argument(
        "--root", required=True, help="the commitment published before the owner could query the suspect"
    )
    parser.add_argument(
        "--victim",
        required=True,
        metavar="FOLDER|URL",
        help="the victim: its folder, or the URL of an unmarked endpoint; the median mapping needs the folder, "
        "which has the weights",
    )
    parser.add_argument("--victim-key", help="API key of the victim's server (default: --key)")
    _add_verdict(parser)


def _add_verdict(parser: Parser) -> None:
    add_endpoint(parser)
    parser.add_argument(
        "--independent",
        nargs="+",
        required=True,
        metavar="FOLDER|URL",
        help="models known not to be stolen, to measure how often a mark holds by chance",
    )
    parser.add_argument("--independent-key", help="API key of the independent models' servers (default: --key)")
    parser.add_argument("--out", type=Path, required=True, help="file for the evidence (JSON)")
    add_fields(parser.add_argument_group("the verdict"), PROOFS.outline("dawn"))


METHODS = {"dataset-inference": _add_dataset_inference, "dawn": _add_dawn}
"""Functions that add the flags of methods; the others are tests against a study."""

OTHERS = {
    "prepare": ("Trains the twins of a victim, and commits to them before there is a suspect.", _add_prepare),
    "commit": ("Appends the commitment to a study to the owner's log, and signs the log's head.", _add_commit),
    "draw": ("Draws the victim by the value of the beacon that a commitment named.", _add_draw),
    "judge": (
        "Checks a study and its evidence against a published commitment, and repeats the test.",
        _add_judge,
    ),
    "report": ("Renders evidence, and a judgement of it, as one page (HTML).", _add_report),
    "judge-dawn": (
        "Checks the evidence of a DAWN claim against a published commitment, and queries the suspect again.",
        _add_judge_dawn,
    ),
}

VERBS = {
    "prepare": "owner.committing:prepare",
    "commit": "owner.committing:commit",
    "draw": "owner.committing:draw",
    "judge": "owner.judging:judge",
    "judge-dawn": "owner.judging:judge_dawn",
    "report": "owner.judging:report",
}
"""Functions that run the commands that are no proofs."""
