"""The judge of a demo: repeats one of the owner's proofs, with rows and models of his own."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from experiments.demo.place import Place
from experiments.parties import Job, Server
from owner.evidence import Evidence
from owner.judgement import load_judgement
from owner.report.page import page

HEADS, EVIDENCE, JUDGEMENT, PROOF = "heads", "evidence.json", "judgement.json", "proof.html"


def publish(place: Place, log: Path) -> None:
    """Hands the judge the heads of the owner's log, as they are published, before there is a theft."""
    heads = place.party("judge") / HEADS
    heads.mkdir(exist_ok=True)
    for path in log.glob("head-*.json"):
        shutil.copy(path, heads)


def judging(place: Place, served: Server, evidence: Evidence[Any]) -> Job:
    """Returns the judge's command.

    Args:
        place: The demo's folders; the suspect is in ``suspects``.
        served: Serves the suspect.
        evidence: The owner's evidence about it.
    """
    folder, name = place.party("judge"), evidence.suspect
    place.held["control"].save(folder / "control.npz")
    evidence.save(folder / EVIDENCE)
    since = datetime.fromtimestamp((place.out / "suspects" / name).stat().st_mtime, UTC)
    flags = ["--url", served.url, "--model", name, "--study", str(place.study), "--since", since.isoformat()]
    flags += ["--head", *sorted(str(path) for path in (folder / HEADS).iterdir()), "--control", "control.npz"]
    flags += ["--controls", str(place.protocol.controls), "--jobs", "1", "--out", JUDGEMENT]
    key = served.account(f"judge-{name}", "customer")
    return Job("judge", ["owner", "judge", EVIDENCE, *flags], folder, {"MLAAS_KEY": key})


def judgement(place: Place, served: Server, evidence: Evidence[Any]) -> dict[str, Any]:
    """Returns what the judge found about a suspect, and writes the page about the proof."""
    made, name = load_judgement(place.party("judge") / JUDGEMENT), evidence.suspect
    (place.out / PROOF).write_text(page(evidence, made), encoding="utf-8")
    found = made.found or {"suspect_queries": 0, "details": {}}
    return {
        "suspect": name,
        "outcome": made.outcome,
        "why": made.why,
        "checked": made.checked,
        "unchecked": made.unchecked,
        "rows": found["suspect_queries"],
        "money": served.ledgers()[f"judge-{name}"]["micro_cents"],
        "z": found["details"].get("z"),
        "limit": found["details"].get("limit"),
        "page": PROOF,
    }
