"""The judge of a study: checks it against its published commitment, and repeats the test.

The p-values are valid for models and queries that nobody picked with the suspect in view. An owner could pass off
a copy of the suspect as the victim, choose queries by the victim's answers, or make thefts that betray how the
private images were divided. So the judge relies on what the published commitment binds, and does the rest again:
trains the victim, some twins and some simulated thefts as the plan says, derives the queries, asks the suspect and
independent models, and reaches a new verdict.

A model that is trained again on another processor differs in its last bits, and after some epochs in some labels.
It is accepted if it agrees with the model of its number at least as often as with any other.

What a judge cannot see is when the commitment was published. It must be older than the suspect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from owner import selected_inference
from owner.evidence import Evidence
from owner.judge import Rejected
from owner.selected_inference import SelectedInference
from owner.twin_test import TwinTest, ranking
from owner.twins import answers, training
from owner.twins import study as studies
from owner.twins.ranks import Ranks
from owner.twins.selection import Selected
from owner.twins.twins import Predict, Twins
from wire import Array, Labels, Oracle
from zoo.model import Model

CAUTION = (
    "The verdict holds if the commitment was published before the suspect existed and tries counts every test of "
    "the owner. Its level is a rate over victims."
)

DETAILS: dict[str, type] = {"twin-test": Ranks, "selected-inference": Selected}
"""The details of the evidence of each test that rests on a study."""


def judge(
    evidence: Evidence[Any],
    root: str,
    study: Path,
    suspect: Oracle,
    independent: Mapping[str, Oracle],
    rng: np.random.Generator,
    *,
    retrained: int = 2,
    tries: int = 1,
) -> Evidence[Any]:
    """Checks the evidence and the study of an owner, and repeats the test.

    Args:
        evidence: The owner's evidence.
        root: The published commitment, in hexadecimal.
        study: The owner's study.
        suspect: The suspected model.
        independent: The judge's own models, known not to be stolen, by name.
        rng: Chooses which models are trained again.
        retrained: Number of twins to train again, besides the victim, and of simulated thefts.
        tries: Number of tests that the owner made, as far as the judge knows; the evidence may admit more.

    Raises:
        Rejected: Evidence or study do not show what they claim; the suspect was not queried.
        BadInput: The study is incomplete or was changed, or a model does not fit it.
        WireError: A model stopped answering.
    """
    twins, plan = studies.load(study), studies.read(study)
    for name, bound in {"evidence": evidence.details.root, "study": twins.root}.items():
        if bound != root.lower():
            raise Rejected(f"the {name} belongs to the commitment {bound}, but {root} was published")
    settings: dict[str, Any] = {
        **plan.settings[evidence.method],
        "tries": max(tries, int(evidence.settings["tries"])),
    }
    method: Any
    holdings: Any
    if evidence.method == "twin-test":
        _check_arithmetic(evidence, twins)
        method, holdings = TwinTest(**settings), answers.Holdings(twins, independent)
    else:
        method = SelectedInference(**settings)
        holdings = selected_inference.Holdings(studies.load_known(study), independent)
    method.check(suspect.card, holdings)
    _check_twins(study, twins, rng.permutation(np.arange(1, twins.count))[:retrained])
    if evidence.method == "selected-inference":
        _check_thefts(study, twins, holdings.known.thefts, rng.permutation(plan.thefts)[:retrained])
    found: Evidence[Any] = method.accuse(suspect, method.prepare(holdings, rng), rng)
    return replace(found, caution=CAUTION)


def _check_arithmetic(evidence: Evidence[Ranks], twins: Twins) -> None:
    """Raises :class:`Rejected` if the owner's numbers contradict one another."""
    details = evidence.details
    if len(details.similarities) != twins.count:
        raise Rejected(f"the evidence has {len(details.similarities)} similarities for {twins.count} models")
    found = ranking(np.array(details.similarities), twins.victim)
    if found.rank != details.rank or not np.isclose(found.z, details.z, rtol=1e-6):
        raise Rejected(
            f"the evidence says rank {details.rank} and z {details.z:.3f}, but its similarities give rank "
            f"{found.rank} and z {found.z:.3f}"
        )


def _check_twins(study: Path, twins: Twins, numbers: Labels) -> None:
    """Trains the victim and some twins again."""
    plan = studies.read(study)
    if plan.seed is None:
        raise Rejected("the card of the victim does not name its seed, so that nobody can train it again")
    pools = studies.read_pools(study, plan)
    for number in (0, *numbers.tolist()):
        again = training.trained(plan, number, pools)
        _check_same(f"twin {number}" if number else "victim", again, number, twins.labels, twins.reference.x)


def _check_thefts(study: Path, twins: Twins, thefts: Sequence[Predict], numbers: Labels) -> None:
    """Simulates some thefts again."""
    plan = studies.read(study)
    x = studies.read_pools(study, plan)["unseen"].x
    labels = np.stack([theft(x).argmax(axis=1) for theft in thefts])
    for number in numbers.tolist():
        _check_same(f"theft {number + 1}", training.stolen(study, plan, number + 1), number, labels, x)


def _check_same(label: str, again: Model, number: int, labels: Labels, x: Array) -> None:
    """Raises :class:`Rejected` if a model that was made again is not the one of its number."""
    agreement = (labels == again.predict(x).argmax(axis=1)).mean(axis=1)
    best = int(agreement.argmax())
    if agreement[number] < agreement[best]:
        raise Rejected(
            f"the {label}, trained again, agrees with the committed one about {agreement[number]:.1%} of rows, "
            f"but with number {best} about {agreement[best]:.1%}: it was not made as the study says"
        )
