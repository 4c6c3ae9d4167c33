"""``mlaas-range prove dataset-inference``: tests a suspect's endpoint and leaves the evidence."""

from __future__ import annotations

import argparse
import dataclasses
from contextlib import ExitStack

import numpy as np

from cli.endpoint import reach
from cli.flags import from_fields
from cli.meter import metered
from owner.dataset_inference.dataset_inference import DatasetInference
from owner.dataset_inference.embeddings import Study
from owner.evidence import Evidence, expect_writable
from wire import BadInput
from zoo.data.pool import Pool

#: The settings on which a study of the victim depends; the others concern the regressor and the test.
_STUDIED = ("fit_images", "test_images", "starts", "uniform", "gaussian", "laplace", "walk_steps")


def run(arguments: argparse.Namespace) -> str:
    """Runs the proof, and returns the evidence in words."""
    method = from_fields(DatasetInference, arguments)
    private, unseen = Pool.load(arguments.private), Pool.load(arguments.unseen)
    if arguments.seed < 0:
        raise BadInput(f"--seed is {arguments.seed}, but must be at least 0")
    for path in filter(None, (arguments.out, arguments.features)):
        expect_writable(path)
    with ExitStack() as stack:
        suspect, victim = reach(arguments), reach(arguments, prefix="victim_")
        stack.callback(suspect.close)
        stack.callback(victim.close)
        for endpoint in (suspect, victim):
            method.check(endpoint.card, private, unseen)
        study_rng, accuse_rng = np.random.default_rng(arguments.seed).spawn(2)
        about = {
            **{name: value for name, value in dataclasses.asdict(method).items() if name in _STUDIED},
            "seed": arguments.seed,
            "victim": victim.base,
            "model": victim.model,
            "version": victim.card.version,
            "range": f"{victim.card.low} to {victim.card.high}",
            "private pool": private.fingerprint,
            "unseen pool": unseen.fingerprint,
        }
        if arguments.features and arguments.features.exists():
            study = Study.load(arguments.features, about)
        else:
            most = method.most_rows(method.fit_images)
            with metered(victim, budget=most, patience=arguments.patience, label="victim") as oracle:
                study = method.study(oracle, private, unseen, study_rng)
            if arguments.features:
                study.save(arguments.features, about)
        most = method.most_rows(method.test_images)
        with metered(suspect, budget=most, patience=arguments.patience, label="suspect") as oracle:
            found = method.accuse(oracle, study, private, unseen, accuse_rng)
    evidence = dataclasses.replace(found, suspect_url=suspect.base, victim_url=victim.base)
    evidence.save(arguments.out)
    return f"{_told(evidence)}\nevidence in {arguments.out}"


def _told(found: Evidence) -> str:
    low, high = found.interval
    before = f" (and {found.victim_queries_before:,} earlier, used again)" * bool(found.victim_queries_before)
    walks = [
        f"  {noise} walks: private {sides['private']:.4f}, unseen {sides['unseen']:.4f}"
        for noise, sides in found.suspect_walks.items()
    ]
    return "\n".join(
        [
            f"{found.suspect_model}: {found.verdict} at alpha {found.alpha:g}",
            f"  p {found.p_value:.3g} (Welch's t {found.statistic:.3f}, df {found.degrees_of_freedom:.1f})",
            f"  delta mu {found.delta_mu:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}",
            *walks,
            f"  asked the suspect {found.suspect_queries:,} rows, the victim {found.victim_queries:,}{before}",
            f"  showed the suspect {found.samples_exposed} private images",
            f"  {found.caution}",
        ]
    )
