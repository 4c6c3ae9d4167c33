"""The flags of marks and fingerprints: to make them, to prove by them, and to judge the proofs."""

from __future__ import annotations

from pathlib import Path

from cli.command import Parser
from cli.flags import add_fields
from cli.registry import outline
from owner.flag_groups import add_heads, add_log, add_number, add_rows, add_served, add_verdict


def add_backdoor(parser: Parser) -> None:
    """Adds the flags of ``backdoor``."""
    parser.add_argument(
        "--mark",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="folder made by `mlaas-range prove mark-backdoor`",
    )
    add_log(parser)
    add_verdict(parser, "backdoor")


def add_mark_backdoor(parser: Parser) -> None:
    """Adds the flags of ``mark-backdoor``."""
    add_rows(parser, "private", "the rows that train the victim")
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
    add_rows(parser, "vanilla", "original images")
    add_rows(parser, "marked", "the same images with the mark")
    parser.add_argument(
        "--mark", type=Path, metavar="FOLDER", help="folder made by `mlaas-range prove mark-radioactive`"
    )
    add_log(parser)
    add_verdict(parser, "radioactive")


def add_conferrable(parser: Parser) -> None:
    """Adds the flags of ``conferrable``."""
    parser.add_argument("--victim", type=Path, required=True, metavar="FOLDER", help="folder of the victim")
    add_rows(parser, "reference", "labelled rows that trained neither the victim nor an independent model")
    parser.add_argument("--seed", type=int, default=0, help="seed of all randomness (default: 0)")
    add_verdict(parser, "conferrable")


def add_honeytrace(parser: Parser) -> None:
    """Adds the flags of ``honeytrace``."""
    add_rows(parser, "triggers", "the triggers, made by `mlaas-range prove mark-honeytrace`")
    add_verdict(parser, "honeytrace")


def add_mark_honeytrace(parser: Parser) -> None:
    """Adds the flags of ``mark-honeytrace``."""
    add_rows(parser, "private", "labelled images, of which the triggers are composed")
    add_number(parser, "count", 11, 400, "triggers")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="folder for the secret and the triggers"
    )


def add_own_errors(parser: Parser) -> None:
    """Adds the flags of ``own-errors``."""
    add_served(parser, "victim", required=True)
    add_rows(parser, "reference", "labelled rows that trained neither the victim nor an independent model")
    add_verdict(parser, "own-errors")


def add_mark_radioactive(parser: Parser) -> None:
    """Adds the flags of ``mark-radioactive``."""
    add_rows(parser, "private", "the rows that train the victim")
    parser.add_argument(
        "--marker", type=Path, required=True, metavar="FOLDER", help="folder of a network whose features are moved"
    )
    parser.add_argument("--log", type=Path, metavar="FOLDER", help="the owner's log, to commit to the key")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="folder for the key and the rows to train on"
    )
    add_fields(parser.add_argument_group("the mark"), outline("defenses.training.radioactive:Radioactive"))


def add_judge_backdoor(parser: Parser) -> None:
    """Adds the flags of ``judge-backdoor``."""
    parser.add_argument("evidence", type=Path, help="evidence file of a backdoor watermark")
    add_heads(parser)
    parser.add_argument(
        "--natural", type=Path, metavar="FILE", help="the natural images of patterns and pixels, from the owner"
    )
    add_verdict(parser, "backdoor")


def add_judge_radioactive(parser: Parser) -> None:
    """Adds the flags of ``judge-radioactive``."""
    parser.add_argument("evidence", type=Path, help="evidence file of radioactive data")
    add_heads(parser)
    parser.add_argument(
        "--mark", type=Path, required=True, metavar="FOLDER", help="folder of the owner's key and marked images"
    )
    parser.add_argument(
        "--marker", type=Path, required=True, metavar="FOLDER", help="folder of the network whose features moved"
    )
    add_verdict(parser, "radioactive")
