"""Runs what an owner does before there is a suspect: ``mlaas-range prove prepare``, ``commit`` and ``draw``."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from tqdm import tqdm

from cli.flags import from_fields
from owner.commitment import commit as commit_to
from owner.log import drand
from owner.log.log import Log, head_name
from owner.log.timestamp import stamped
from owner.selected_inference import SelectedInference
from owner.twin_test import TwinTest
from owner.twins import study as studies
from owner.twins import training
from wire import BadInput
from zoo.data.pool import Pool


def prepare(arguments: argparse.Namespace) -> str:
    """Trains the twins of a victim, and returns the commitment."""
    settings = {
        "twin-test": from_fields(TwinTest, arguments).committed(),
        "selected-inference": from_fields(SelectedInference, arguments, "selected_").committed(),
    }
    names = ["private", "reference", *["unseen"] * (arguments.unseen is not None)]
    pools = {name: Pool.load(getattr(arguments, name)) for name in names}
    study: Path = arguments.study
    jobs, beacon = arguments.jobs or training.cores(), arguments.beacon
    plan = studies.begin(study, arguments.victim, pools, arguments.twins, settings, arguments.thefts, beacon)
    if missing := training.missing(study, plan):
        took = training.minutes(plan, studies.known_rows(pools), missing, jobs)
        tqdm.write(f"training {missing} models takes about {took:.0f} minutes and can be resumed", file=sys.stderr)
    training.train(study, jobs)
    return (
        f"{study}: the victim and {plan.twins} twins; keep the folder secret\n"
        f"next, before there is a suspect: mlaas-range prove commit --study {study}\n"
        f"commitment: {studies.root_of(study)}"
    )


def commit(arguments: argparse.Namespace) -> str:
    """Appends the commitment to a study to the owner's log, and returns what to publish."""
    plan = studies.read(arguments.study)
    if not plan.complete:
        raise BadInput(f"{arguments.study} is not complete: run `mlaas-range prove prepare` again first")
    log, number = Log.open(arguments.log, create=True), drand.round_of(plan.beacon)
    if number is not None and plan.entry.line not in log.entries and drand.known_at(number) <= datetime.now(UTC):
        raise BadInput(f"{plan.beacon} is known already: prepare another study, with a later round")
    log = commit_to(log, plan.entry)
    head = log.heads[log.entries.index(plan.entry.line)]
    if arguments.timestamp and head.timestamp is None:
        head = stamped(head, arguments.timestamp)
        log.replace_head(head)
    following = (
        ""
        if plan.beacon is None
        else (f"\nwhen {plan.beacon} is known: mlaas-range prove draw --study {arguments.study} --value HEX")
    )
    return (
        f"commitment {plan.entry.root} is entry {head.size} of {len(log.entries)} in {log.folder}\n"
        f"publish {log.folder / head_name(head.size)} before there is a suspect; its key is {head.key}{following}"
    )


def draw(arguments: argparse.Namespace) -> str:
    """Draws the victim by the value of the beacon that the commitment named."""
    number = studies.draw(arguments.study, arguments.value)
    return f"the victim is {studies.model_folder(arguments.study, number)}: deploy this model, and no other"
