"""The judge of a twin test: checks a study against its published commitment, and asks the suspect again.

The p-values are valid for models and queries that nobody picked with the suspect in view. An owner could pass
off a copy of the suspect as the victim, or choose queries by the victim's answers. So the judge relies on what the
published commitment binds, and does the rest again: trains the victim and some twins from their recipe, seeds and
rows, derives the queries from the committed models, asks the suspect and independent models, and reaches a new
verdict.

A model that is trained again on another processor differs in its last bits, and after some epochs in some labels.
It is accepted if it agrees with the model of its number at least as often as with any other.

What a judge cannot see is when the commitment was published. It must be older than the suspect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from owner.evidence import Evidence
from owner.judge import Rejected
from owner.twin_test import TwinTest, ranking
from owner.twins import study as studies
from owner.twins.answers import Holdings
from owner.twins.ranks import Ranks
from owner.twins.study import Plan
from owner.twins.twins import Twins
from wire import Oracle
from zoo.data.pool import Pool

CAUTION = (
    "The verdict holds if the commitment was published before the suspect existed and tries counts every test of "
    "the owner. Its level is a rate over victims."
)


def judge(
    evidence: Evidence[Ranks],
    root: str,
    study: Path,
    suspect: Oracle,
    independent: Mapping[str, Oracle],
    rng: np.random.Generator,
    *,
    retrained: int = 2,
    tries: int = 1,
) -> Evidence[Ranks]:
    """Checks the evidence and the study of an owner, and repeats the test.

    Args:
        evidence: The owner's evidence.
        root: The published commitment, in hexadecimal.
        study: The owner's study.
        suspect: The suspected model.
        independent: The judge's own models, known not to be stolen, by name.
        rng: Chooses which twins are trained again.
        retrained: Number of twins to train again, besides the victim.
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
    _check_arithmetic(evidence, twins)
    tries = max(tries, int(evidence.settings["tries"]))
    method = TwinTest(**plan.settings["twin-test"], tries=tries)  # type: ignore[arg-type]
    holdings = Holdings(twins, independent)
    method.check(suspect.card, holdings)
    others = rng.permutation(np.arange(1, twins.count))[:retrained]
    for number in (0, *others.tolist()):
        _check_training(number, plan, twins, studies.read_pools(study, plan))
    found = method.accuse(suspect, method.prepare(holdings, rng), rng)
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


def _check_training(number: int, plan: Plan, twins: Twins, pools: Mapping[str, Pool]) -> None:
    """Trains a model of the study again; raises :class:`Rejected` if the study holds another one."""
    if number == 0 and plan.seed is None:
        raise Rejected("the card of the victim does not name its seed, so that nobody can train it again")
    known, label = studies.known_rows(pools), f"twin {number}" if number else "victim"
    rows = plan.rows_of(number, known) if number else pools["private"]
    again = plan.recipe(number).train(rows, label=label).predict(twins.reference.x).argmax(axis=1)
    agreement = (twins.labels == again).mean(axis=1)
    best = int(agreement.argmax())
    if agreement[number] < agreement[best]:
        raise Rejected(
            f"the {label}, trained again, agrees with the committed one about {agreement[number]:.1%} of the "
            f"reference rows, but with model {best} about {agreement[best]:.1%}: it was not made as the study says"
        )
