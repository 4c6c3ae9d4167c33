"""Runs ``mlaas-range prove judge``, ``judge-dawn``, ``judge-backdoor``, ``judge-radioactive`` and ``report``."""

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
from owner.backdoor import BackdoorTest
from owner.backdoor_judge import judge as judge_triggers
from owner.dawn import Dawn
from owner.evidence import Evidence, expect_writable, load, method_of
from owner.judge import judge as judge_marks
from owner.judgement import load_judgement
from owner.log.head import read_head
from owner.marks_held import MarksHeld
from owner.radioactive import RadioactiveTest, Surprise
from owner.radioactive_judge import judge as judge_marked
from owner.radioactive_key import RadioactiveKey
from owner.report.page import page
from owner.runner import Run, endpoint_of, independent_of, model_at, written
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
    key, marker = RadioactiveKey.load(arguments.mark), folder.load(arguments.marker).network()
    images = Pool.load(arguments.mark / "vanilla.npz"), Pool.load(arguments.mark / "marked.npz")
    with ExitStack() as stack:
        run = Run(arguments, stack, {})
        suspect, independent = endpoint_of(run), independent_of(run)
        oracle = stack.enter_context(metered(suspect, patience=arguments.patience, label="suspect"))
        found = judge_marked(method, evidence, heads, key, images, marker, oracle, independent, arguments.since)
    return written(dataclasses.replace(found, suspect_url=suspect.base), arguments.out)


def report(arguments: argparse.Namespace) -> str:
    """Renders evidence, and a judgement of it, as one page."""
    expect_writable(arguments.out)
    judgement = load_judgement(arguments.judgement) if arguments.judgement else None
    arguments.out.write_text(page(read_evidence(arguments.evidence), judgement), encoding="utf-8")
    return f"report in {arguments.out}"


def read_evidence(path: Path) -> Evidence[Any]:
    """Reads evidence that rests on a study, from a file exactly as it was written."""
    method = method_of(path)
    if method not in DETAILS:
        raise BadInput(f"{path} is evidence of {method}; expected one of {', '.join(DETAILS)}")
    evidence: Evidence[Any] = load(path, DETAILS[method])
    if evidence.to_json() != path.read_bytes():
        raise BadInput(f"{path}: not as it was written")
    return evidence
