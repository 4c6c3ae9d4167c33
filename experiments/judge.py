"""``python -m experiments judge`` and ``exposure``: what scores and likelihoods of attacks are worth."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from experiments import metrics
from wire import BadInput
from wire.files import read_arrays


def judged(scores_file: Path, truth_file: Path) -> str:
    """Compares a membership attack's scores with the truth, for a person to read.

    Args:
        scores_file: The attack's ``scores.npz``.
        truth_file: ``truth.npz`` of the roles whose candidates were attacked.

    Raises:
        BadInput: A file is not what it should be, or both files are not about the same candidates.
    """
    attacked = read_arrays(scores_file, "scores")
    scores, threshold = attacked.get("scores"), attacked.get("threshold")
    member = read_arrays(truth_file, "the truth about candidates").get("member")
    if scores is None or member is None or scores.dtype.kind != "f" or member.dtype != bool or scores.ndim != 1:
        raise BadInput(f'{scores_file} and {truth_file}: expected (n,) floats "scores" and (n,) booleans "member"')
    if scores.shape != member.shape:
        raise BadInput(
            f"{len(scores)} scores, but the truth about {len(member)} candidates: they are not of one draw"
        )
    scored = member[~np.isnan(scores)]
    if scored.all() or not scored.any():
        raise BadInput("the scored candidates are all members or all non-members; score more rows")
    worth = metrics.membership(scores, member, None if threshold is None else float(threshold))
    lines = [
        f"{worth['members']} members and {worth['others']} non-members were scored",
        f"AUC {worth['auc']:.4f} (standard error {worth['auc_error']:.4f}; chance 0.5)",
        f"best balanced accuracy {worth['balanced_accuracy']:.4f}",
    ]
    for fpr, (rate, low, high) in worth["tpr_at"].items():
        lines.append(f"TPR at {float(fpr):.1%} FPR: {rate:.4f} (95 % interval {low:.4f} to {high:.4f})")
    for name in ("precision", "recall"):
        if worth.get(name) is not None:
            rate, low, high = worth[name]
            lines.append(f"{name} at the attack's threshold: {rate:.4f} (95 % interval {low:.4f} to {high:.4f})")
    return "\n".join(lines)


def exposed(likelihoods_file: Path, digits: int) -> str:
    """Returns the exposure of suspected secrets, for a person to read.

    Args:
        likelihoods_file: What the attack ``exposure`` left.
        digits: Number of digits of a secret.

    Raises:
        BadInput: The file is not what it should be.
    """
    found = read_arrays(likelihoods_file, "likelihoods")
    secrets, others = found.get("secrets"), found.get("others")
    if secrets is None or others is None or not len(others) or {secrets.dtype.kind, others.dtype.kind} != {"f"}:
        raise BadInput(f'{likelihoods_file}: expected floats "secrets", (k,), and "others", (m,)')
    lines = [f"{len(secrets)} suspected secrets of {digits} digits among {len(others)} random ones"]
    for number, (counted, fitted) in enumerate(zip(*metrics.exposures(secrets, others, digits), strict=True), 1):
        lines.append(f"secret {number}: exposure {counted:.1f} bits by its rank, {fitted:.1f} by the fit")
    most = np.log2(len(others) + 1)
    lines.append(f"a secret that was never learnt has 1.4 bits on the average; a rank tells {most:.1f} at most")
    return "\n".join(lines)
