"""The owner of a demo: every suspect is served at an endpoint of its own and tested for theft."""

from __future__ import annotations

import shutil
from typing import Any

from experiments import metrics
from experiments.demo.attacks import BASELINE
from experiments.demo.place import Place
from experiments.header import cores
from experiments.parties import Job, Parties, Server
from owner.dataset_inference.walks import Walks
from owner.evidence import accusations, load
from zoo import folder
from zoo.exact_interval import Interval

STOLEN_AT = ("open", "labels")


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
    targets = {"victim": (victims.url, "open", victim_key)}
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
        "ledgers": {"victims": victims.ledgers()["owner"], "suspects": suspects.ledgers()["owner"]},
    }


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
