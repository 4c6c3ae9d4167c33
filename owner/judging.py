"""Runs ``mlaas-range prove judge``, ``judge-...`` and ``report``."""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from cli.flags import from_fields
from cli.meter import metered
from owner import PROOFS
from owner.backdoor import BackdoorTest
from owner.backdoor_judge import judge as judge_triggers
from owner.conferrable import Conferred, Models
from owner.dataset_inference.by_weights import InferenceByWeights
from owner.dawn import Dawn
from owner.evidence import Evidence, expect_writable, load, method_of
from owner.honeytrace import Leaning, Triggers
from owner.honeytrace import files_of as honeytrace_files
from owner.judge import judge as judge_marks
from owner.judgement import load_judgement
from owner.log.head import read_head
from owner.marks_held import MarksHeld
from owner.one_more import LEAST
from owner.own_errors import Errors, Rows
from owner.radioactive import RadioactiveTest
from owner.radioactive_judge import judge as judge_marked
from owner.report.page import page
from owner.runner import Run, endpoint_of, independent_of, model_at, of_folder, written
from owner.scheme_judge import Case as SchemeCase
from owner.scheme_judge import judge as judge_scheme
from owner.scheme_key import SchemeKey
from owner.surprise import Surprise
from owner.trigger_key import TriggersHeld
from owner.twins import training
from owner.twins.again import Remade
from owner.twins.judge import DETAILS, Case
from owner.twins.judge import judge as judge_study
from wire import BadInput
from zoo import folder
from zoo.data.pool import Pool


def judge(arguments: argparse.Namespace) -> str:
    """Judges evidence that rests on a study; returns a description of the judgement."""
    given = arguments
    expect_writable(given.out)
    if not (given.independent or given.control):
        raise BadInput("a judge needs independent models: give --control with rows of your own, or --independent")
    case = Case(
        evidence=read_evidence(given.evidence),
        study=given.study,
        heads=[read_head(path) for path in given.head],
        since=given.since,
        authority=given.authority,
        beacon=given.beacon,
        tries=given.tries,
        retrained=given.retrain,
    )
    control = Pool.load(given.control) if given.control else None
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        remade = Remade(work, control, given.controls, given.jobs or training.cores())
        run = Run(given, stack, {})
        suspect, independent = endpoint_of(run), independent_of(run)
        oracle = stack.enter_context(metered(suspect, patience=given.patience, label="suspect"))
        if given.deployed_url:
            served = metered(endpoint_of(run, "deployed_"), patience=given.patience, label="owner")
            case = dataclasses.replace(case, deployed=stack.enter_context(served))
        found = judge_study(case, oracle, independent, remade, np.random.default_rng())
    found = found.at(suspect.base)
    found.save(given.out)
    return f"{found.describe()}\njudgement in {given.out}"


def judge_dawn(arguments: argparse.Namespace) -> str:
    """Judges the evidence of a DAWN claim; returns a description of the findings."""
    method = from_fields(Dawn, arguments)
    expect_writable(arguments.out)
    evidence = load(arguments.evidence, MarksHeld)
    with ExitStack() as stack:
        run = Run(arguments, stack, {})
        suspect, independent = endpoint_of(run), independent_of(run)
        victim = model_at(run, arguments.victim, arguments.victim_key)
        oracle = stack.enter_context(metered(suspect, patience=arguments.patience, label="suspect"))
        found = judge_marks(method, evidence, arguments.root, victim, oracle, independent)
    return written(dataclasses.replace(found, suspect_url=suspect.base), arguments.out)


def judge_backdoor(arguments: argparse.Namespace) -> str:
    """Judges the evidence of a backdoor watermark; returns a description of the findings."""
    method = from_fields(BackdoorTest, arguments)
    expect_writable(arguments.out)
    evidence, heads = load(arguments.evidence, TriggersHeld), [read_head(path) for path in arguments.head]
    natural = Pool.load(arguments.natural) if arguments.natural else None
    with ExitStack() as stack:
        run = Run(arguments, stack, {})
        suspect, independent = endpoint_of(run), independent_of(run)
        oracle = stack.enter_context(metered(suspect, patience=arguments.patience, label="suspect"))
        found = judge_triggers(method, evidence, heads, natural, oracle, independent, arguments.since)
    return written(dataclasses.replace(found, suspect_url=suspect.base), arguments.out)


def judge_radioactive(arguments: argparse.Namespace) -> str:
    """Judges the evidence of radioactive data; returns a description of the findings."""
    method = from_fields(RadioactiveTest, arguments)
    expect_writable(arguments.out)
    evidence, heads = load(arguments.evidence, Surprise), [read_head(path) for path in arguments.head]
    key, marker = SchemeKey.load(arguments.mark), folder.load(arguments.marker).network()
    images = Pool.load(arguments.mark / "vanilla.npz"), Pool.load(arguments.mark / "marked.npz")
    with ExitStack() as stack:
        run = Run(arguments, stack, {})
        suspect, independent = endpoint_of(run), independent_of(run)
        oracle = stack.enter_context(metered(suspect, patience=arguments.patience, label="suspect"))
        found = judge_marked(method, evidence, heads, key, images, marker, oracle, independent, arguments.since)
    return written(dataclasses.replace(found, suspect_url=suspect.base), arguments.out)


def judge_committed(arguments: argparse.Namespace) -> str:
    """Judges the evidence of a scheme whose queries follow from a key; returns a description of the findings."""
    given = arguments
    expect_writable(given.out)
    name = method_of(given.evidence)
    if name not in COMMITTED:
        raise BadInput(f"{given.evidence} is evidence of {name}; expected one of {', '.join(COMMITTED)}")
    evidence: Evidence[Any] = load(given.evidence, COMMITTED[name])
    key = SchemeKey.load(given.mark)
    with ExitStack() as stack:
        run = Run(given, stack, {})
        suspect, independent = endpoint_of(run), independent_of(run)
        oracle = stack.enter_context(metered(suspect, patience=given.patience, label="suspect"))
        holdings: Any
        if name == "honeytrace":
            private = Pool.load(given.private)
            holdings, files = Triggers(private, key, independent), honeytrace_files(private)
        else:
            if given.victim is None:
                raise BadInput(f"a judge of {name} needs the victim: give its folder with --victim")
            victim, reference = of_folder(given.victim), Pool.load(given.reference)
            files = {"reference rows": reference.fingerprint, "victim": str(victim.fingerprint)}
            if name == "conferrable":
                holdings = Models(folder.load(given.victim).network(), reference, independent)
            else:
                holdings = Rows(victim.oracle, reference, independent)
        case = SchemeCase(evidence, [read_head(path) for path in given.head], key, files, given.since)
        found = judge_scheme(case, PROOFS[name](tries=given.tries), holdings, oracle)  # type: ignore[call-arg]
    return written(dataclasses.replace(found, suspect_url=suspect.base), given.out)


def inference_by_weights(arguments: argparse.Namespace) -> str:
    """Tests a suspect whose weights a judge has; returns a description of the findings."""
    given, method = arguments, from_fields(InferenceByWeights, arguments)
    expect_writable(given.out)
    if len(given.independent) < LEAST:
        raise BadInput(f"expected at least {LEAST} independent models, not {len(given.independent)}")
    suspect, victim = (folder.load(path).network() for path in (given.suspect, given.victim))
    private, unseen = Pool.load(given.private), Pool.load(given.unseen)
    study = method.prepare(victim, private, unseen, np.random.default_rng(given.seed))
    others = {str(path): method.effect(folder.load(path).network(), study).delta_mu for path in given.independent}
    return written(method.accuse(suspect, study, others), given.out)


def report(arguments: argparse.Namespace) -> str:
    """Renders evidence, and a judgement of it, as one page."""
    expect_writable(arguments.out)
    judgement = load_judgement(arguments.judgement) if arguments.judgement else None
    arguments.out.write_text(page(read_evidence(arguments.evidence), judgement), encoding="utf-8")
    return f"report in {arguments.out}"


COMMITTED: dict[str, type] = {"own-errors": Errors, "conferrable": Conferred, "honeytrace": Leaning}
"""The details of the evidence of each scheme whose queries a judge makes again from a key."""


def read_evidence(path: Path) -> Evidence[Any]:
    """Reads evidence that rests on a study, from a file exactly as it was written."""
    method = method_of(path)
    if method not in DETAILS:
        raise BadInput(f"{path} is evidence of {method}; expected one of {', '.join(DETAILS)}")
    evidence: Evidence[Any] = load(path, DETAILS[method])
    if evidence.to_json() != path.read_bytes():
        raise BadInput(f"{path}: not as it was written")
    return evidence
