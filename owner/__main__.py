"""``python -m owner PROOF``: tests a suspect's endpoint and leaves the evidence."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from cli.command import Parser, run
from cli.flags import add_endpoint, add_fields, from_fields, summary
from cli.keys import read_key
from cli.meter import metered
from owner import PROOFS, Evidence, marks
from owner.dataset_inference.embeddings import Study
from owner.evidence import expect_writable
from wire import BadInput
from wire.http import CardOptions, Endpoint
from zoo.data.pool import Pool

#: The settings on which a study of the victim depends; the others concern the regressor and the test.
_STUDIED = ("fit_images", "test_images", "starts", "uniform", "gaussian", "laplace", "walk_steps")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs a proof."""
    arguments = _parser().parse_args(argv)
    if arguments.proof not in PROOFS:
        print(marks.run(arguments))
        return
    method = from_fields(PROOFS[arguments.proof], arguments)
    private, unseen = Pool.load(arguments.private), Pool.load(arguments.unseen)
    if arguments.seed < 0:
        raise BadInput(f"--seed is {arguments.seed}, but must be at least 0")
    for path in filter(None, (arguments.out, arguments.features)):
        expect_writable(path)
    with ExitStack() as stack:
        suspect, victim = _endpoint(arguments), _endpoint(arguments, "victim_")
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
    print(_told(evidence))
    print(f"evidence in {arguments.out}")


def _parser() -> Parser:
    parser = Parser(prog="python -m owner", description="Tests whether a served model was made from yours.")
    proofs = parser.add_subparsers(dest="proof", required=True, metavar="PROOF", parser_class=Parser)
    for name, proof in PROOFS.items():
        sub = proofs.add_parser(name, help=summary(proof), description=summary(proof))
        add_endpoint(sub)
        group = sub.add_argument_group("the victim")
        group.add_argument("--victim", dest="victim_url", metavar="URL", required=True, help="the victim's URL")
        group.add_argument("--victim-model", help="its name; not needed if the server has only one")
        group.add_argument(
            "--victim-key",
            default=os.environ.get("MLAAS_VICTIM_KEY"),
            help="API key there (MLAAS_VICTIM_KEY; default: that of --key)",
        )
        add_fields(group, CardOptions, "victim_")  # type: ignore[arg-type]
        sub.add_argument(
            "--private",
            type=Path,
            default="private.npz",
            help="pool of images that trained the victim (default: %(default)s)",
        )
        sub.add_argument(
            "--unseen",
            type=Path,
            default="unseen.npz",
            help="pool of images that trained nobody (default: %(default)s)",
        )
        sub.add_argument("--out", type=Path, required=True, help="where the evidence goes (JSON)")
        sub.add_argument(
            "--features",
            type=Path,
            help="keeps the victim's features (npz), so that further suspects cost it no row",
        )
        sub.add_argument("--seed", type=int, default=0, help="seed of all that is drawn (default: 0)")
        add_fields(sub.add_argument_group("the method"), proof)  # type: ignore[arg-type]
    marks.add_commands(proofs)
    return parser


def _endpoint(arguments: argparse.Namespace, prefix: str = "") -> Endpoint:
    given = vars(arguments)
    return Endpoint(
        given[prefix + "url"],
        model=given[prefix + "model"],
        key=given[prefix + "key"] or read_key(arguments.key, arguments.key_file),
        options=from_fields(CardOptions, arguments, prefix),
    )


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


if __name__ == "__main__":
    run(main)
