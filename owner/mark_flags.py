"""The flags of marks and fingerprints: to make them, to prove by them, and to judge the proofs."""

from __future__ import annotations

from pathlib import Path

from cli.command import Parser
from cli.endpoint import add_endpoint
from cli.flags import add_fields
from cli.registry import outline
from owner import PROOFS
from owner.flag_groups import (
    add_heads,
    add_independent,
    add_log,
    add_number,
    add_out,
    add_rows,
    add_served,
    add_verdict,
)


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
    _add_made(parser, "the secret key and the rows to train on")
    add_fields(parser.add_argument_group("the mark"), outline("defenses.training.backdoor:Backdoor"))


def add_radioactive(parser: Parser) -> None:
    """Adds the flags of ``radioactive``."""
    add_rows(parser, "vanilla", "original images")
    add_rows(parser, "marked", "the same images with the mark")
    _add_key(parser, "mark-radioactive")
    parser.add_argument(
        "--marker",
        type=Path,
        metavar="FOLDER",
        help="folder of the network whose features moved, to mark the images by wrong keys too",
    )
    add_verdict(parser, "radioactive")


def add_conferrable(parser: Parser) -> None:
    """Adds the flags of ``conferrable``."""
    parser.add_argument("--victim", type=Path, required=True, metavar="FOLDER", help="folder of the victim")
    add_rows(parser, "reference", "labelled rows that trained neither the victim nor an independent model")
    parser.add_argument("--seed", type=int, default=0, help="seed of all randomness, without a key (default: 0)")
    _add_key(parser, "commit-conferrable")
    add_verdict(parser, "conferrable")


def add_honeytrace(parser: Parser) -> None:
    """Adds the flags of ``honeytrace``."""
    add_rows(parser, "private", "the labelled images, of which the triggers are composed")
    _add_key(parser, "mark-honeytrace", required=True)
    add_verdict(parser, "honeytrace")


def add_mark_honeytrace(parser: Parser) -> None:
    """Adds the flags of ``mark-honeytrace``."""
    add_rows(parser, "private", "labelled images, of which the triggers are composed")
    add_number(parser, "count", 11, 400, "triggers")
    _add_made(parser, "the key and the triggers")
    add_fields(parser.add_argument_group("the test, to commit to"), PROOFS.outline("honeytrace"))


def add_commit_fingerprint(name: str, parser: Parser) -> None:
    """Adds the flags of ``commit-own-errors`` and ``commit-conferrable``."""
    parser.add_argument(
        "--victim", type=Path, required=True, metavar="FOLDER", help="folder of the victim, as it is served"
    )
    add_rows(parser, "reference", "labelled rows that trained neither the victim nor an independent model")
    _add_made(parser, "the key")
    add_fields(parser.add_argument_group("the test, to commit to"), PROOFS.outline(name))


def _add_key(parser: Parser, made_by: str, *, required: bool = False) -> None:
    parser.add_argument(
        "--mark",
        type=Path,
        required=required,
        metavar="FOLDER",
        help=f"folder of the key, made by `mlaas-range prove {made_by}`",
    )
    add_log(parser)


def _add_made(parser: Parser, what: str) -> None:
    parser.add_argument("--log", type=Path, metavar="FOLDER", help="the owner's log, to commit to the key")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help=f"folder for {what}")


def add_own_errors(parser: Parser) -> None:
    """Adds the flags of ``own-errors``."""
    add_served(parser, "victim", required=True)
    add_rows(parser, "reference", "labelled rows that trained neither the victim nor an independent model")
    _add_key(parser, "commit-own-errors")
    add_verdict(parser, "own-errors")


def add_mark_radioactive(parser: Parser) -> None:
    """Adds the flags of ``mark-radioactive``."""
    add_rows(parser, "private", "the rows that train the victim")
    parser.add_argument(
        "--marker", type=Path, required=True, metavar="FOLDER", help="folder of a network whose features are moved"
    )
    _add_made(parser, "the key and the rows to train on")
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


def add_judge_committed(parser: Parser) -> None:
    """Adds the flags of ``judge-committed``."""
    parser.add_argument("evidence", type=Path, help="evidence file of own-errors, conferrable or honeytrace")
    add_heads(parser)
    parser.add_argument("--mark", type=Path, required=True, metavar="FOLDER", help="folder of the owner's key")
    parser.add_argument(
        "--victim", type=Path, metavar="FOLDER", help="folder of the victim (own-errors and conferrable)"
    )
    add_rows(parser, "reference", "the owner's reference rows (own-errors and conferrable)")
    add_rows(parser, "private", "the owner's private images (honeytrace)")
    add_endpoint(parser)
    add_independent(parser, "models known not to be stolen, to compare the suspect with", required=True)
    add_number(parser, "tries", 1, 1, "suspects that the owner tested")
    add_out(parser, "the evidence (JSON)")
