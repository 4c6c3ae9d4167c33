"""The flags of ``mlaas-range prove``: one function for each command, and what several commands share."""

from __future__ import annotations

import argparse
import os
from datetime import UTC, datetime
from pathlib import Path

from cli.command import Parser
from cli.endpoint import add_card_options, add_endpoint
from cli.flags import add_fields, add_quiet, at_least
from cli.registry import outline
from owner import PROOFS


def add_dataset_inference(parser: Parser) -> None:
    """Adds the flags of ``dataset-inference``."""
    add_endpoint(parser)
    _add_served(parser, "victim", required=True)
    _add_rows(parser, "private", "images that the victim was trained on")
    _add_rows(parser, "unseen", "images that no model was trained on")
    _add_out(parser, "the evidence (JSON)")
    parser.add_argument(
        "--features",
        type=Path,
        help="file that keeps the victim's features (npz), so that further suspects need no queries to the victim",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of all randomness (default: 0)")
    add_fields(parser.add_argument_group("the method"), PROOFS.outline("dataset-inference"))


def add_study_test(name: str, parser: Parser) -> None:
    """Adds the flags of a test against a study."""
    add_endpoint(parser)
    _add_study(parser)
    _add_independent(parser, "models known not to be stolen, to test beside the suspect")
    _add_log(parser)
    _add_out(parser, "the evidence (JSON)")
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
    _add_verdict(parser, "dawn")


def add_backdoor(parser: Parser) -> None:
    """Adds the flags of ``backdoor``."""
    parser.add_argument(
        "--mark",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="folder made by `mlaas-range prove mark-backdoor`",
    )
    _add_log(parser)
    _add_verdict(parser, "backdoor")


def add_mark_backdoor(parser: Parser) -> None:
    """Adds the flags of ``mark-backdoor``."""
    _add_rows(parser, "private", "the rows that train the victim")
    parser.add_argument(
        "--natural", type=Path, metavar="FILE", help="file of other labelled images, for patterns and pixels"
    )
    parser.add_argument("--log", type=Path, metavar="FOLDER", help="the owner's log, to commit to the key")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="folder for the secret key and the rows to train on",
    )
    add_fields(parser.add_argument_group("the mark"), outline("defenses.training.backdoor:Backdoor"))


def add_radioactive(parser: Parser) -> None:
    """Adds the flags of ``radioactive``."""
    _add_rows(parser, "vanilla", "original images")
    _add_rows(parser, "marked", "the same images with the mark")
    parser.add_argument(
        "--mark", type=Path, metavar="FOLDER", help="folder made by `mlaas-range prove mark-radioactive`"
    )
    _add_log(parser)
    _add_verdict(parser, "radioactive")


def add_conferrable(parser: Parser) -> None:
    """Adds the flags of ``conferrable``."""
    parser.add_argument("--victim", type=Path, required=True, metavar="FOLDER", help="folder of the victim")
    _add_rows(parser, "reference", "labelled rows that trained neither the victim nor an independent model")
    parser.add_argument("--seed", type=int, default=0, help="seed of all randomness (default: 0)")
    _add_verdict(parser, "conferrable")


def add_honeytrace(parser: Parser) -> None:
    """Adds the flags of ``honeytrace``."""
    _add_rows(parser, "triggers", "the triggers, made by `mlaas-range prove mark-honeytrace`")
    _add_verdict(parser, "honeytrace")


def add_mark_honeytrace(parser: Parser) -> None:
    """Adds the flags of ``mark-honeytrace``."""
    _add_rows(parser, "private", "labelled images, of which the triggers are composed")
    _add_number(parser, "count", 11, 400, "triggers")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="folder for the secret and the triggers"
    )


def add_own_errors(parser: Parser) -> None:
    """Adds the flags of ``own-errors``."""
    _add_served(parser, "victim", required=True)
    _add_rows(parser, "reference", "labelled rows that trained neither the victim nor an independent model")
    _add_verdict(parser, "own-errors")


def add_mark_radioactive(parser: Parser) -> None:
    """Adds the flags of ``mark-radioactive``."""
    _add_rows(parser, "private", "the rows that train the victim")
    parser.add_argument(
        "--marker", type=Path, required=True, metavar="FOLDER", help="folder of a network whose features are moved"
    )
    parser.add_argument("--log", type=Path, metavar="FOLDER", help="the owner's log, to commit to the key")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="folder for the key and the rows to train on"
    )
    add_fields(parser.add_argument_group("the mark"), outline("defenses.training.radioactive:Radioactive"))


def add_prepare(parser: Parser) -> None:
    """Adds the flags of ``prepare``."""
    parser.add_argument(
        "--victim", type=Path, required=True, metavar="FOLDER", help="folder of the victim, as it is served"
    )
    _add_rows(parser, "private", "the rows that the victim was trained on")
    parser.add_argument(
        "--unseen",
        type=Path,
        help="file of rows that were separated from the private ones at random before the victim was trained; "
        "twins draw their rows from both files (default: twins are trained on the private rows)",
    )
    _add_rows(parser, "reference", "other rows, which train neither the victim nor a twin, to choose queries from")
    parser.add_argument("--study", type=Path, required=True, metavar="FOLDER", help="folder for the study")
    _add_number(parser, "twins", 2, 15, "twins to train; with 99, the exact p-value reaches 1 %%")
    _add_number(parser, "thefts", 0, 0, "thefts to simulate, for selected-inference: 16 are advisable")
    parser.add_argument(
        "--beacon",
        metavar="NAME",
        help="name of a public value, not yet known, that will draw the victim among the given model and its "
        "twins, such as 'drand quicknet 30000000', a round of drand (default: the given model is the victim)",
    )
    _add_jobs(parser)
    add_quiet(parser)
    for name, prefix in (("twin-test", ""), ("selected-inference", "selected_")):
        add_fields(parser.add_argument_group(f"{name}, to commit to"), PROOFS.outline(name), prefix)


def add_commit(parser: Parser) -> None:
    """Adds the flags of ``commit``."""
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


def add_draw(parser: Parser) -> None:
    """Adds the flags of ``draw``."""
    _add_study(parser)
    parser.add_argument("--value", required=True, metavar="HEX", help="the value of the beacon, in hexadecimal")


def add_judge(parser: Parser) -> None:
    """Adds the flags of ``judge``."""
    parser.add_argument("evidence", type=Path, help="evidence file of a twin test or of selected inference")
    _add_heads(parser)
    parser.add_argument(
        "--authority",
        type=Path,
        metavar="FILE",
        help="certificates (PEM) of the authority that timestamped the head (default: rely on the owner's clock)",
    )
    parser.add_argument("--beacon", metavar="HEX", help="value of the beacon that draws the victim, as published")
    add_endpoint(parser)
    _add_served(parser, "deployed", of="the owner's own endpoint, which should serve the committed victim")
    _add_study(parser)
    parser.add_argument(
        "--control",
        type=Path,
        metavar="FILE",
        help="the judge's own rows with labels, to train independent models on",
    )
    _add_number(parser, "controls", 1, 16, "independent models to train on them")
    _add_independent(parser, "further models known not to be stolen")
    _add_jobs(parser)
    _add_number(parser, "retrain", 0, 2, "twins, and of simulated thefts, to make again besides the victim")
    _add_number(parser, "tries", 1, 1, "suspects that the owner tested, if more than in the evidence")
    _add_out(parser, "the judgement (JSON)")


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
    _add_verdict(parser, "dawn")


def add_judge_backdoor(parser: Parser) -> None:
    """Adds the flags of ``judge-backdoor``."""
    parser.add_argument("evidence", type=Path, help="evidence file of a backdoor watermark")
    _add_heads(parser)
    parser.add_argument(
        "--natural", type=Path, metavar="FILE", help="the natural images of patterns and pixels, from the owner"
    )
    _add_verdict(parser, "backdoor")


def add_judge_radioactive(parser: Parser) -> None:
    """Adds the flags of ``judge-radioactive``."""
    parser.add_argument("evidence", type=Path, help="evidence file of radioactive data")
    _add_heads(parser)
    parser.add_argument(
        "--mark", type=Path, required=True, metavar="FOLDER", help="folder of the owner's key and marked images"
    )
    parser.add_argument(
        "--marker", type=Path, required=True, metavar="FOLDER", help="folder of the network whose features moved"
    )
    _add_verdict(parser, "radioactive")


def add_report(parser: Parser) -> None:
    """Adds the flags of ``report``."""
    parser.add_argument("evidence", type=Path, help="evidence file of a twin test or of selected inference")
    parser.add_argument(
        "--judgement", type=Path, metavar="FILE", help="judgement of this evidence, to show beside it"
    )
    _add_out(parser, "the page (HTML)")


def _add_served(parser: Parser, name: str, *, of: str = "the victim", required: bool = False) -> None:
    """Adds the flags of another endpoint than the suspect's."""
    group, prefix = parser.add_argument_group(of.partition(",")[0]), f"{name}_"
    group.add_argument(f"--{name}", dest=f"{prefix}url", metavar="URL", required=required, help=f"URL of {of}")
    group.add_argument(f"--{name}-model", help="name of the model; not needed if the server has only one")
    variable = f"MLAAS_{name.upper()}_KEY"
    group.add_argument(
        f"--{name}-key",
        default=os.environ.get(variable),
        help=f"API key of that server ({variable}; default: --key)",
    )
    add_card_options(group, prefix)


def _add_verdict(parser: Parser, proof: str) -> None:
    add_endpoint(parser)
    _add_independent(parser, "models known not to be stolen, to compare the suspect with", required=True)
    _add_out(parser, "the evidence (JSON)")
    add_fields(parser.add_argument_group("the verdict"), PROOFS.outline(proof))


def _add_log(parser: Parser) -> None:
    parser.add_argument(
        "--log",
        type=Path,
        metavar="FOLDER",
        help="the owner's log, whose receipt and signature a judge needs (default: none)",
    )


def _add_heads(parser: Parser) -> None:
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


def _add_independent(parser: Parser, about: str, *, required: bool = False) -> None:
    parser.add_argument(
        "--independent",
        nargs="+" if required else "*",
        default=(),
        required=required,
        metavar="FOLDER|URL",
        help=about,
    )
    parser.add_argument("--independent-key", help="API key of the independent models' servers (default: --key)")


def _add_rows(parser: Parser, name: str, about: str) -> None:
    parser.add_argument(
        f"--{name}", type=Path, default=f"{name}.npz", help=f"file of {about} (default: %(default)s)"
    )


def _add_number(parser: Parser, name: str, least: int, default: int, about: str) -> None:
    parser.add_argument(
        f"--{name}",
        type=at_least(least),
        default=default,
        metavar="N",
        help=f"number of {about} (default: %(default)s)",
    )


def _add_out(parser: Parser, about: str) -> None:
    parser.add_argument("--out", type=Path, required=True, help=f"file for {about}")


def _add_study(parser: Parser) -> None:
    parser.add_argument(
        "--study", type=Path, required=True, metavar="FOLDER", help="folder made by `mlaas-range prove prepare`"
    )


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
