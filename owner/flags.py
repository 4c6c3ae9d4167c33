"""The flags of ``mlaas-range prove``: one function for each command; those of marks are in ``mark_flags``."""

from __future__ import annotations

import os
from pathlib import Path

from cli.command import Parser
from cli.endpoint import add_endpoint
from cli.flags import add_fields, add_quiet
from cli.registry import outline
from owner import PROOFS
from owner.flag_groups import (
    add_heads,
    add_independent,
    add_jobs,
    add_log,
    add_number,
    add_out,
    add_rows,
    add_served,
    add_study,
    add_verdict,
)


def add_dataset_inference(parser: Parser) -> None:
    """Adds the flags of ``dataset-inference``."""
    add_endpoint(parser)
    add_served(parser, "victim", required=True)
    add_rows(parser, "private", "images that the victim was trained on")
    add_rows(parser, "unseen", "images that no model was trained on")
    add_out(parser, "the evidence (JSON)")
    parser.add_argument(
        "--features",
        type=Path,
        help="file that keeps the victim's features (npz), so that further suspects need no queries to the victim",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of all randomness (default: 0)")
    add_fields(parser.add_argument_group("the method"), PROOFS.outline("dataset-inference"))


def add_inference_by_weights(parser: Parser) -> None:
    """Adds the flags of ``inference-by-weights``."""
    for name, about in (("suspect", "the suspect, with its weights"), ("victim", "the victim")):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="FOLDER", help=f"folder of {about}")
    add_rows(parser, "private", "images that the victim was trained on")
    add_rows(parser, "unseen", "images that no model was trained on")
    parser.add_argument(
        "--independent",
        type=Path,
        nargs="+",
        required=True,
        metavar="FOLDER",
        help="models known not to be stolen",
    )
    add_out(parser, "the evidence (JSON)")
    parser.add_argument("--seed", type=int, default=0, help="seed of all randomness (default: 0)")
    outlined = outline("owner.dataset_inference.by_weights:InferenceByWeights")
    add_fields(parser.add_argument_group("the method"), outlined)


def add_study_test(name: str, parser: Parser) -> None:
    """Adds the flags of a test against a study."""
    add_endpoint(parser)
    add_study(parser)
    add_independent(parser, "models known not to be stolen, to test beside the suspect")
    add_log(parser)
    add_out(parser, "the evidence (JSON)")
    add_fields(parser.add_argument_group("the method"), PROOFS.outline(name))


def add_dawn(parser: Parser) -> None:
    """Adds the flags of ``dawn``."""
    parser.add_argument(
        "--marks",
        required=True,
        nargs="+",
        metavar="FILE|URL",
        help="the account's marks: a file with the answer of GET /admin/models/MODEL/marks/ACCOUNT, or its URL; "
        "several, for a theft that was split over accounts",
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
    add_verdict(parser, "dawn")


def add_prepare(parser: Parser) -> None:
    """Adds the flags of ``prepare``."""
    parser.add_argument(
        "--victim", type=Path, required=True, metavar="FOLDER", help="folder of the victim, as it is served"
    )
    add_rows(parser, "private", "the rows that the victim was trained on")
    parser.add_argument(
        "--unseen",
        type=Path,
        help="file of rows that were separated from the private ones at random before the victim was trained; "
        "twins draw their rows from both files (default: twins are trained on the private rows)",
    )
    add_rows(parser, "reference", "other rows, which train neither the victim nor a twin, to choose queries from")
    parser.add_argument("--study", type=Path, required=True, metavar="FOLDER", help="folder for the study")
    add_number(parser, "twins", 2, 15, "twins to train; with 99, the exact p-value reaches 1 %%")
    add_number(parser, "thefts", 0, 0, "thefts to simulate, for selected-inference: 16 are advisable")
    parser.add_argument(
        "--beacon",
        metavar="NAME",
        help="name of a public value, not yet known, that will draw the victim among the given model and its "
        "twins, such as 'drand quicknet 30000000', a round of drand (default: the given model is the victim)",
    )
    add_jobs(parser)
    add_quiet(parser)
    for name, prefix in (("twin-test", ""), ("selected-inference", "selected_")):
        add_fields(parser.add_argument_group(f"{name}, to commit to"), PROOFS.outline(name), prefix)


def add_commit(parser: Parser) -> None:
    """Adds the flags of ``commit``."""
    add_study(parser)
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


def add_draw(parser: Parser) -> None:
    """Adds the flags of ``draw``."""
    add_study(parser)
    parser.add_argument("--value", required=True, metavar="HEX", help="the value of the beacon, in hexadecimal")


def add_judge(parser: Parser) -> None:
    """Adds the flags of ``judge``."""
    parser.add_argument("evidence", type=Path, help="evidence file of a twin test or of selected inference")
    add_heads(parser)
    parser.add_argument(
        "--authority",
        type=Path,
        metavar="FILE",
        help="certificates (PEM) of the authority that timestamped the head (default: rely on the owner's clock)",
    )
    parser.add_argument("--beacon", metavar="HEX", help="value of the beacon that draws the victim, as published")
    add_endpoint(parser)
    add_served(parser, "deployed", of="the owner's own endpoint, which should serve the committed victim")
    add_study(parser)
    parser.add_argument(
        "--control",
        type=Path,
        metavar="FILE",
        help="the judge's own rows with labels, to train independent models on",
    )
    add_number(parser, "controls", 1, 16, "independent models to train on them")
    add_independent(parser, "further models known not to be stolen")
    add_jobs(parser)
    add_number(parser, "retrain", 0, 2, "twins, and of simulated thefts, to make again besides the victim")
    add_number(parser, "tries", 1, 1, "suspects that the owner tested, if more than in the evidence")
    add_out(parser, "the judgement (JSON)")


def add_judge_dawn(parser: Parser) -> None:
    """Adds the flags of ``judge-dawn``."""
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
    add_verdict(parser, "dawn")


def add_report(parser: Parser) -> None:
    """Adds the flags of ``report``."""
    parser.add_argument("evidence", type=Path, help="evidence file of a twin test or of selected inference")
    parser.add_argument(
        "--judgement", type=Path, metavar="FILE", help="judgement of this evidence, to show beside it"
    )
    add_out(parser, "the page (HTML)")
