"""The owner of a demo: every suspect is served at an endpoint of its own and tested for theft."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

from experiments import metrics
from experiments.demo.attacks import BASELINE
from experiments.demo.place import Place
from experiments.header import cores
from experiments.parties import Job, Parties, Server
from owner.dataset_inference.walks import Walks
from owner.evidence import accusations, load
from owner.twins.ranks import Ranks
from zoo import folder
from zoo.exact_interval import Interval

STOLEN_AT = ("open", "labels")

Target = tuple[str, str, str]
"""A suspect's URL, the name of its model and a key."""


def prove(place: Place, parties: Parties, victims: Server) -> dict[str, Any]:
    """Has the owner test the victim itself, stolen models and the independent models.

    Args:
        place: The demo's folders; ``suspects`` holds the models ``independent-0``, ``independent-1``, ...
        parties: Runs the owner and the suspects' server.
        victims: Serves the victim.
    """
    stolen = {f"stolen-{policy}": f"{BASELINE}-{policy}-{place.protocol.budgets[-1]}" for policy in STOLEN_AT}
    for name, account in stolen.items():
        shutil.copytree(place.run_of(account) / "surrogate", place.party("suspects") / name)
    names = [*stolen, *(f"independent-{number}" for number in range(place.protocol.independents))]
    suspects = place.serve_suspects(parties, names)
    victim_key, suspects_key = victims.account("owner", "owner"), suspects.account("owner", "owner")
    targets: dict[str, Target] = {"victim": (victims.url, "open", victim_key)}
    targets |= {name: (suspects.url, name, suspects_key) for name in names}
    jobs = [
        Job(
            f"owner-{name}",
            ["owner", "dataset-inference", "--url", url, "--model", model, *_flags(place, name, victims)],
            place.party("owner"),
            {"MLAAS_KEY": key, "MLAAS_VICTIM_KEY": victim_key, "OMP_NUM_THREADS": "1"},
        )
        for name, (url, model, key) in targets.items()
    ]
    parties.run(jobs[:1], at_once=1, label="ownership: the victim itself")  # its walks are kept for the others
    parties.run(jobs[1:], at_once=cores(), label="ownership: suspects")
    proofs = _twin_tests(place, parties, targets)
    evidences = {name: load(place.out / "owner" / f"{name}.json", Walks) for name in targets}
    accused = accusations([evidences[name] for name in targets if name.startswith("independent")])
    return {
        "suspects": [
            {
                "name": name,
                "kind": name.partition("-")[0],
                "accuracy": _accuracy(place, name) if name in names else None,
                **evidence.flat(),
            }
            for name, evidence in evidences.items()
        ],
        "independents_accused": accused._asdict(),
        "proofs": proofs,
        "ledgers": {"victims": victims.ledgers()["owner"], "suspects": suspects.ledgers()["owner"]},
    }


def _twin_tests(place: Place, parties: Parties, targets: Mapping[str, Target]) -> list[dict[str, Any]]:
    """Trains the victim's twins, or finds those of an earlier demo, and ranks the victim among them."""
    victim = place.out / "victims" / "victim"
    study = place.state / "studies" / f"{folder.read_card(victim).sha256[:16]}-{place.protocol.twins}"
    files = [f for name in ("private", "unseen", "reference") for f in (f"--{name}", f"{name}.npz")]
    prepare = ["owner", "prepare", "--victim", str(victim), *files, "--study", str(study)]
    prepare += ["--twins", str(place.protocol.twins), "--jobs", str(cores())]
    parties.run([Job("owner-twins", prepare, place.party("owner"))], at_once=1, label="ownership: twins")
    honest = [name for name in targets if name.startswith("independent")]
    jobs = []
    for name, (url, model, key) in targets.items():
        test = ["owner", "twin-test", "--url", url, "--model", model, "--study", str(study)]
        others = [str(place.out / "suspects" / other) for other in honest if other != name]
        test += ["--independent", *others, "--out", f"twins-{name}.json"]
        environment = {"MLAAS_KEY": key, "OMP_NUM_THREADS": "1"}
        jobs.append(Job(f"owner-twins-{name}", test, place.party("owner"), environment))
    parties.run(jobs[:1], at_once=1, label="twin test: the victim itself")  # the twins' answers are kept
    parties.run(jobs[1:], at_once=cores(), label="twin test: suspects")
    kept = ("verdict", "p_value", "alpha", "suspect_queries", "caution")
    ranks = ("models", "rests_on", "rank", "p_rank", "z", "p_t", "limit")
    proofs = []
    for name in targets:
        found = load(place.out / "owner" / f"twins-{name}.json", Ranks).flat()
        proofs.append(
            {"name": name, "kind": name.partition("-")[0], **{entry: found[entry] for entry in kept + ranks}}
        )
    return proofs


def _flags(place: Place, name: str, victims: Server) -> list[str]:
    flags = ["--victim", victims.url, "--victim-model", "open", "--private", "private.npz"]
    flags += ["--unseen", "unseen.npz", "--features", "features.npz", "--out", f"{name}.json"]
    for size in ("fit_images", "test_images", "starts"):
        flags += [f"--{size.replace('_', '-')}", str(getattr(place.protocol, size))]
    return [*flags, "--seed", str(place.seed)]


def _accuracy(place: Place, name: str) -> Interval:
    evaluation = place.held["evaluation"]
    assert evaluation.y is not None
    labels = folder.load(place.out / "suspects" / name).predict(evaluation.x).argmax(axis=1)
    return metrics.agreement(labels, evaluation.y)
