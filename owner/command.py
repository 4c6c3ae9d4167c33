"""``mlaas-range prove`` and ``python -m owner``: tests whether a served model was made from yours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from cli.command import Parser
from cli.flags import summary
from cli.registry import resolve
from owner import PROOFS, TEXT_PROOFS, flags, mark_flags, text_commands


def main(argv: Sequence[str] | None = None, prog: str = "python -m owner") -> None:
    """Runs a proof."""
    parser = Parser(prog, description="Tests whether a served model was made from yours.")
    proofs = parser.add_subparsers(dest="proof", required=True, metavar="PROOF")
    for name in PROOFS:
        fill = METHODS.get(name, partial(flags.add_study_test, name))
        about = summary(PROOFS.outline(name))
        proofs.add_parser(name, help=about, description=about, fill=fill)
    for name in TEXT_PROOFS:
        about = summary(TEXT_PROOFS.outline(name))
        proofs.add_parser(name, help=about, description=about, fill=text_commands.add_proof)
    for name, (about, fill) in OTHERS.items():
        proofs.add_parser(name, help=about, description=about, fill=fill)
    arguments = parser.parse_args(argv)
    print(resolve(VERBS.get(arguments.proof, "owner.runner:prove"))(arguments))


METHODS: dict[str, Callable[[Parser], None]] = {
    "backdoor": mark_flags.add_backdoor,
    "conferrable": mark_flags.add_conferrable,
    "dataset-inference": flags.add_dataset_inference,
    "dawn": flags.add_dawn,
    "honeytrace": mark_flags.add_honeytrace,
    "own-errors": mark_flags.add_own_errors,
    "radioactive": mark_flags.add_radioactive,
}
"""Functions that add the flags of methods; the others are tests against a study."""

OTHERS: dict[str, tuple[str, Callable[[Parser], None]]] = {
    "prepare": ("Trains the twins of a victim, and commits to them before there is a suspect.", flags.add_prepare),
    "commit": (
        "Appends the commitment to a study to the owner's log, and signs the log's head.",
        flags.add_commit,
    ),
    "draw": ("Draws the victim by the value of the beacon that a commitment named.", flags.add_draw),
    "mark-backdoor": (
        "Makes the secret triggers of a backdoor watermark, and the rows that train a marked model.",
        mark_flags.add_mark_backdoor,
    ),
    "mark-honeytrace": (
        "Makes the secret triggers towards which the layer `honeytrace` leans answers.",
        mark_flags.add_mark_honeytrace,
    ),
    "mark-radioactive": (
        "Marks training images by secret directions in the features of a network.",
        mark_flags.add_mark_radioactive,
    ),
    "commit-own-errors": (
        "Commits to victim, rows and settings of own-errors before there is a suspect.",
        partial(mark_flags.add_commit_fingerprint, "own-errors"),
    ),
    "commit-conferrable": (
        "Commits to victim, rows and settings of conferrable before there is a suspect.",
        partial(mark_flags.add_commit_fingerprint, "conferrable"),
    ),
    "mark-text": ("Makes the key of a mark in a language model's texts.", text_commands.add_mark),
    "judge-text": (
        "Asks a suspect for texts again, and tells a thief from a model that was made to carry the mark.",
        text_commands.add_judge,
    ),
    "judge": (
        "Checks a study and its evidence against a published commitment, and repeats the test.",
        flags.add_judge,
    ),
    "report": ("Renders evidence, and a judgement of it, as one page (HTML).", flags.add_report),
    "judge-dawn": (
        "Checks the evidence of a DAWN claim against a published commitment, and queries the suspect again.",
        flags.add_judge_dawn,
    ),
    "judge-backdoor": (
        "Makes the opened triggers of a backdoor watermark again, and queries the suspect again.",
        mark_flags.add_judge_backdoor,
    ),
    "judge-radioactive": (
        "Marks the images of radioactive data again, and queries the suspect again.",
        mark_flags.add_judge_radioactive,
    ),
    "inference-by-weights": (
        "Dataset inference by MinGD, on a suspect whose weights a judge has (Maini et al., ICLR 2021).",
        flags.add_inference_by_weights,
    ),
    "judge-committed": (
        "Makes errors, examples or triggers again from the commitment, and queries the suspect again.",
        mark_flags.add_judge_committed,
    ),
}

VERBS = {
    "prepare": "owner.committing:prepare",
    "commit": "owner.committing:commit",
    "draw": "owner.committing:draw",
    "mark-backdoor": "owner.marking:backdoor",
    "mark-honeytrace": "owner.marking:honeytrace",
    "mark-radioactive": "owner.marking:radioactive",
    "commit-own-errors": "owner.marking:fingerprint",
    "commit-conferrable": "owner.marking:fingerprint",
    "mark-text": "owner.text_commands:mark",
    "radioactive-text": "owner.text_commands:prove",
    "judge-text": "owner.text_commands:judge",
    "judge": "owner.judging:judge",
    "judge-dawn": "owner.judging:judge_dawn",
    "judge-backdoor": "owner.judging:judge_backdoor",
    "judge-radioactive": "owner.judging:judge_radioactive",
    "judge-committed": "owner.judging:judge_committed",
    "inference-by-weights": "owner.judging:inference_by_weights",
    "report": "owner.judging:report",
}
"""Functions that run the commands that are no proofs."""
