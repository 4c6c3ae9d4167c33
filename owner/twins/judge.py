"""The judge of a study: checks it against its published commitment, and repeats the test.

The p-values are valid for models and queries that nobody picked with the suspect in view. An owner could pass off
a copy of the suspect as the victim, choose queries by the victim's answers, make thefts that betray how the
private images were divided, or commit to many victims and show the luckiest. So the judge relies on what the
published log binds, and does the rest again: trains the victim, some twins and some simulated thefts as the plan
says, trains independent models of his own, derives the queries, asks the suspect, and reaches a new verdict.

A model that is trained again on another processor differs in its last bits, and after some epochs in some labels.
It is accepted if it agrees with the model of its number at least as often as with any other. The owner's endpoint
must besides give the victim's label in most of the rows that the models dispute, where other models do not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from owner import selected_inference
from owner.commitment import drawn_victim
from owner.evidence import Evidence
from owner.judgement import Checks, Judgement, Rejected
from owner.log import drand
from owner.log.head import Head
from owner.log.timestamp import time_of
from owner.papers import signed_receipt
from owner.selected_inference import SelectedInference
from owner.twin_test import TwinTest, dispute, ranking, similarity
from owner.twins import answers
from owner.twins import study as studies
from owner.twins.again import Remade
from owner.twins.plan import Plan
from owner.twins.ranks import Ranks
from owner.twins.selection import Selected
from owner.twins.twins import Twins
from wire import Array, BadInput, Labels, Oracle
from zoo.model import Model

CAUTION = (
    "The verdict holds if the commitment was published before the suspect existed, the log is the owner's only "
    "one, and tries counts every suspect that the owner tested. Its level is a rate over victims."
)
ADVISABLE = 16  # independent models
DISPUTED = 1000  # rows to ask the owner's endpoint about
SAME = 0.9  # share of its labels that are the victim's: defences change few of them, and no twin has as many

DETAILS: dict[str, type] = {"twin-test": Ranks, "selected-inference": Selected}
"""The details of the evidence of each test that rests on a study."""


@dataclass(frozen=True)
class Case:
    """A case: the documents and models before a judge.

    Attributes:
        evidence: The owner's evidence.
        study: The owner's study.
        heads: Heads of the owner's log, found where he published them.
        since: When the suspect is known to have existed; None if that is unknown.
        authority: Certificates of the authority that timestamped the heads; None to rely on the owner's clock.
        beacon: Value of the beacon that draws the victim, looked up by the judge; None if there is no beacon.
        tries: Number of suspects that the owner tested, as far as the judge knows; the evidence may admit more.
        retrained: Number of twins to train again, besides the victim, and of simulated thefts.
        deployed: The owner's own endpoint, which should serve the victim; None if the judge has no access.
    """

    evidence: Evidence[Any]
    study: Path
    heads: Sequence[Head]
    since: datetime | None = None
    authority: Path | None = None
    beacon: str | None = None
    tries: int = 1
    retrained: int = 2
    deployed: Oracle | None = None


def judge(
    case: Case, suspect: Oracle, independent: Mapping[str, Oracle], remade: Remade, rng: np.random.Generator
) -> Judgement:
    """Checks the evidence and the study of an owner, and repeats the test.

    Args:
        case: The owner's evidence and study, and what was published.
        suspect: The suspected model; it is asked only if nothing is refused.
        independent: Models that are known not to be stolen, by name.
        remade: Trains models again, and the judge's own.
        rng: Chooses which models are trained again.

    Raises:
        BadInput: The judge's own files or options are not usable.
        WireError: A model stopped answering.
    """
    checks = Checks()
    try:
        plan, twins = _check_papers(case, checks)
        found = _repeated(case, plan, twins, suspect, independent, remade, rng, checks)
    except Rejected as error:
        return Judgement.of(case.evidence, checks, error)
    return Judgement.of(case.evidence, checks, found)


def _check_papers(case: Case, checks: Checks) -> tuple[Plan, Twins]:
    """Checks evidence, log and study against each other; nothing is trained or asked."""
    evidence, receipt = case.evidence, signed_receipt(case.evidence)
    with _owners():
        receipt.check()
        shown = receipt.check_published(case.heads)
        plan, twins = studies.read(case.study), replace(studies.load(case.study), receipt=receipt)
        assert len(twins.labels) == twins.count  # reads all models
    if receipt.entry != plan.entry:
        raise Rejected(f"the log has the commitment {receipt.entry.root}, but the study's is {plan.entry.root}")
    if evidence.details.root != plan.entry.root:
        raise Rejected(f"the evidence belongs to the commitment {evidence.details.root}, not to {plan.entry.root}")
    checks.done += [
        f"the evidence is as the owner signed it, with the key {receipt.head.key[:16]}…",
        f"the published log has the commitment {plan.entry.root[:16]}…, as entry {receipt.index + 1} of "
        f"{receipt.commitments}; p is multiplied by {receipt.commitments}",
        "rows, models and the rule of the test are those of the commitment",
    ]
    checks.open.append("whether the owner has other logs, under other keys")
    when = _check_time(case, receipt.head if shown.timestamp is None else shown, checks)
    _check_victim(case, plan, twins, when, checks)
    rule = orjson.loads(receipt.rule.content)["settings"].get(evidence.method, {})
    if {name: evidence.settings.get(name) for name in rule} != rule:
        raise Rejected(f"the evidence was made with the settings {evidence.settings}, but the rule is {rule}")
    return plan, twins


def _check_time(case: Case, head: Head, checks: Checks) -> datetime:
    """Returns the time of the commitment."""
    if case.authority is None:
        when, by = head.time, "by the owner's clock"
        checks.open.append(
            f"whether the head was published at {when:%Y-%m-%d %H:%M} UTC, as the owner's clock says"
        )
    else:
        with _owners():
            when = time_of(head, case.authority)
        by = "by its timestamp"
    if case.since is None:
        checks.open.append("whether the commitment is older than the suspect, whose date was not given")
        return when
    if when >= case.since:
        raise Rejected(
            f"the commitment is of {when:%Y-%m-%d %H:%M} UTC {by}, no older than the suspect "
            f"({case.since:%Y-%m-%d %H:%M}): the owner could have chosen it with the suspect in view"
        )
    checks.done.append(
        f"the commitment, of {when:%Y-%m-%d %H:%M} UTC {by}, is older than the suspect, of "
        f"{case.since:%Y-%m-%d %H:%M}"
    )
    return when


def _check_victim(case: Case, plan: Plan, twins: Twins, when: datetime, checks: Checks) -> None:
    if case.deployed is not None:
        _check_deployed(case.deployed, twins, checks)
    was = "did so" if case.deployed is not None else "serves the committed victim, and did so"
    checks.open.append(f"whether the owner's endpoint {was} before the suspect existed")
    if plan.beacon is None:
        return
    if case.beacon is None:
        raise BadInput(f"the victim is drawn by {plan.beacon}: look its value up, and give it with --beacon")
    if (named := drand.round_of(plan.beacon)) is not None:
        drand.check(named, case.beacon)
    number = drawn_victim(case.beacon, plan.entry.root, twins.count)
    if number != twins.victim:
        raise Rejected(f"the value of {plan.beacon} draws model {number}, but the study says {twins.victim}")
    checks.done.append(f"the victim is model {number} of {twins.count}, drawn by the value of {plan.beacon}")
    if named is None:
        checks.open.append(f"whether the value of {plan.beacon} became known only after the commitment")
        return
    if (known := drand.known_at(named)) <= when:
        raise Rejected(f"{plan.beacon} was known at {known:%Y-%m-%d %H:%M} UTC, before the commitment")
    checks.done.append(f"that value is the network's, and became known at {known:%Y-%m-%d %H:%M} UTC, afterwards")


def _check_deployed(deployed: Oracle, twins: Twins, checks: Checks) -> None:
    """Asks the owner's endpoint about the rows that the committed models dispute most."""
    disputed = dispute(twins.labels, twins.card.classes)
    chosen = np.argsort(-disputed, kind="stable")[: min(DISPUTED, np.count_nonzero(disputed))]
    told = deployed.query(twins.reference.x[chosen]).labels
    agreement = (twins.labels[:, chosen] == told).mean(axis=1)
    own, best = float(agreement[twins.victim]), int(agreement.argmax())
    if own < SAME or own < agreement[best]:
        raise Rejected(
            f"the owner's endpoint gives the committed victim's label in {own:.1%} of {len(chosen)} disputed "
            f"rows, and that of model {best} in {agreement[best]:.1%}; expected {SAME:.0%} or more of the "
            "victim's: it serves another model"
        )
    checks.done.append(
        f"the owner's endpoint gives the committed victim's label in {own:.1%} of {len(chosen)} disputed rows, "
        f"and that of any other model in {np.delete(agreement, twins.victim).max():.1%} at most"
    )


def _repeated(
    case: Case,
    plan: Plan,
    twins: Twins,
    suspect: Oracle,
    independent: Mapping[str, Oracle],
    remade: Remade,
    rng: np.random.Generator,
    checks: Checks,
) -> Evidence[Any]:
    """Trains again, derives the queries and asks."""
    evidence = case.evidence
    settings: dict[str, Any] = {
        **plan.settings[evidence.method],
        "tries": max(case.tries, int(evidence.settings["tries"])),
    }
    selected = evidence.method == "selected-inference"
    if plan.seed is None and twins.victim == 0:
        raise Rejected("the card of the victim does not name its seed, so that nobody can train it again")
    others = np.delete(np.arange(twins.count), twins.victim)
    numbers = [twins.victim, *rng.permutation(others)[: case.retrained].tolist()]
    stolen = rng.permutation(plan.thefts)[: case.retrained].tolist() if selected else []
    models, thefts, controls = remade.make(case.study, plan, numbers, stolen)
    agreed = [_check_same(plan, twins, *one) for one in models.items()]
    held = {**independent, **controls}
    method: Any
    holdings: Any
    if selected:
        with _owners():
            known = studies.load_known(case.study)
            x = known.pool.x[known.private :]
            labels = np.stack([theft(x).argmax(axis=1) for theft in known.thefts])
        for number, model in thefts.items():
            agreed.append(_agreement(f"theft {number + 1}", model, number, labels, x))
        method = SelectedInference(**settings)
        holdings = selected_inference.Holdings(replace(known, twins=twins), held)
    else:
        method, holdings = TwinTest(**settings), answers.Holdings(twins, held)
    checks.done.append(
        f"{len(agreed)} models were trained again, the victim among them; each agrees best with its own "
        f"committed one, about {min(agreed):.1%} of rows or more"
    )
    checks.open.append(f"the other {len(plan.models) - len(agreed)} models, which were not trained again")
    method.check(suspect.card, holdings)
    derived = method.prepare(holdings, rng)
    if not selected:
        _check_arithmetic(evidence, twins, derived.answers.probs, method.ridge)
        checks.done.append(
            "the queries follow from the committed models, and the owner's numbers from his answers"
        )
    if len(held) < ADVISABLE:
        checks.open.append(f"more than {len(held)} independent models; {ADVISABLE} are advisable")
    found: Evidence[Any] = replace(method.accuse(suspect, derived, rng), caution=CAUTION)
    _compare(evidence, found, checks)
    return found


def _check_arithmetic(evidence: Evidence[Ranks], twins: Twins, probs: Array, ridge: float) -> None:
    """Raises :class:`Rejected` if the owner's numbers do not follow from the answers that he says he got."""
    details, labels = evidence.details, np.array(evidence.details.labels)
    if not 0 < len(labels) <= probs.shape[1] or not 0 <= labels.min() <= labels.max() < probs.shape[2]:
        raise Rejected(f"the evidence has {len(labels)} answers, or unknown classes, for {probs.shape[1]} queries")
    similarities = similarity(probs[:, : len(labels)], labels, ridge)
    found = ranking(similarities, twins.victim)
    if len(details.similarities) != twins.count or not np.allclose(
        details.similarities, similarities, rtol=1e-2, atol=1e-3 * np.abs(similarities).max()
    ):
        raise Rejected("the similarities of the evidence do not follow from its answers and the committed models")
    if found.rank != details.rank or not np.isclose(found.z, details.z, rtol=1e-2, atol=1e-2):
        raise Rejected(
            f"the evidence says rank {details.rank} and z {details.z:.3f}, but its answers give rank {found.rank} "
            f"and z {found.z:.3f}"
        )


def _compare(evidence: Evidence[Any], found: Evidence[Any], checks: Checks) -> None:
    """Notes what the suspect answered before and now, and what independent models did."""
    details, plainly = found.details, "would be accused without the judge's line"
    if isinstance(details, Ranks):
        before, after = (np.array(one.details.labels) for one in (evidence, found))
        both = min(len(before), len(after))
        same = (before[:both] == after[:both]).mean()
        checks.done.append(
            f"asked again about {both:,} rows, the suspect gave the label of the evidence in {same:.1%}"
        )
    else:
        plainly = "are accused"
    checks.done.append(
        f"{details.independent_accused} of {len(details.independent)} independent models, tested beside the "
        f"suspect, {plainly}"
    )


def _check_same(plan: Plan, twins: Twins, number: int, again: Model) -> float:
    label = "victim" if number == twins.victim else f"twin {number}"
    return _agreement(label, again, number, twins.labels, twins.reference.x)


def _agreement(label: str, again: Model, number: int, labels: Labels, x: Array) -> float:
    """Returns how often a model made again agrees with its committed one.

    Raises:
        Rejected: It agrees more often with another one.
    """
    agreement = (labels == again.predict(x).argmax(axis=1)).mean(axis=1)
    best = int(agreement.argmax())
    if agreement[number] < agreement[best]:
        raise Rejected(
            f"the {label}, trained again, agrees with the committed one about {agreement[number]:.1%} of rows, "
            f"but with number {best} about {agreement[best]:.1%}: it was not made as the study says"
        )
    return float(agreement[number])


@contextmanager
def _owners() -> Iterator[None]:
    """Refuses the evidence if something that the owner gave is not usable."""
    try:
        yield
    except Rejected:
        raise
    except (BadInput, ValueError) as error:
        raise Rejected(str(error)) from None
