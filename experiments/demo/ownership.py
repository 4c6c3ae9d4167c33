"""The owner of a demo: commits to twins before there is a suspect, and then tests every suspect for theft."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments import metrics
from experiments.demo.attacks import BASELINE, Run, extractions
from experiments.demo.judgement import judgement, judging, publish
from experiments.demo.place import Place
from experiments.header import cores
from experiments.parties import Job, Parties, Server
from owner.dataset_inference.walks import Walks
from owner.evidence import Evidence, accusations, load
from owner.marks_held import MarksHeld
from owner.twins.ranks import Ranks
from owner.twins.study import root_of
from zoo import folder
from zoo.exact_interval import Interval

TESTS: Mapping[str, Any] = {"twin-test": Ranks, "dawn": MarksHeld, "dataset-inference": Walks}
"""The tests of a demo, with the kinds of their evidence."""

WALKED_AT = ("open", "labels")  # dataset inference tests the thefts by one attack under these policies
LONG = (
    "labels",
    "opening",
    "receipt",
    "signature",
)  # parts of evidence that the results leave out; the owner's files have them


@dataclass(frozen=True, eq=False)
class Suspect:
    """A suspected model.

    Attributes:
        name: Its name.
        kind: ``victim``, ``stolen`` or ``independent``.
        theft: The run that stole it.
    """

    name: str
    kind: str
    theft: Run | None = None


def commit(place: Place, parties: Parties) -> str:
    """Has the owner train the victim's twins and commit to them, before any theft; returns the commitment."""
    flags = ["--victim", "victim", "--unseen", "unseen.npz", "--study", str(place.study)]
    flags += ["--twins", str(place.protocol.twins), "--jobs", str(cores())]
    job = Job("owner-prepare", ["owner", "prepare", *flags], place.party("owner"))
    parties.run([job], at_once=1, label=f"ownership: {place.protocol.twins} twins")
    entry = Job("owner-commit", ["owner", "commit", *_log(place)], place.party("owner"))
    parties.run([entry], at_once=1, label="ownership: commitment")
    publish(place, _log_folder(place))
    return root_of(place.study)


def prove(place: Place, parties: Parties, victims: Server) -> dict[str, Any]:
    """Has the owner test the victim itself, stolen models and independent models, and a judge the first theft.

    Args:
        place: The demo's folders; ``owner/controls`` and ``suspects`` hold the independent models.
        parties: Runs the owner and the suspects' server.
        victims: Serves the victim.

    Returns:
        The evidence of each test about each suspect, the judgement, and what each server billed the owner for.
    """
    suspects = [Suspect("victim", "victim"), *_stolen(place), *_independent(place)]
    served = place.serve_suspects(parties, [suspect.name for suspect in suspects if suspect.kind != "victim"])
    owner = _Owner(place, victims, served)
    plan = owner.plan(suspects)
    every = [(test, suspect) for test, asked in plan.items() for suspect in asked]
    # What a test asks of the victim or its twins is kept for further suspects.
    first = [(test, asked[0]) for test, asked in plan.items() if asked]
    stolen = [one for one in every if one not in first and one[1].theft]
    others = [one for one in every if one not in [*first, *stolen]]
    for part, label in ((first, "the first suspect"), (stolen, "stolen models")):
        parties.run([owner.job(*one) for one in part], at_once=cores(), label=f"ownership: {label}")
    thefts = [suspect for suspect in suspects if suspect.theft]
    shown = [owner.evidence("twin-test", suspect) for suspect in thefts[:1]]
    jobs = [*(judging(place, served, one) for one in shown), *(owner.job(*one) for one in others)]
    parties.run(jobs, at_once=cores(), label="ownership: independent models and the judge")
    tests, false = {}, {}
    for test, asked in plan.items():
        evidence = {suspect: owner.evidence(test, suspect) for suspect in asked}
        tests[test] = [owner.found(suspect, found) for suspect, found in evidence.items()]
        innocent = [found for suspect, found in evidence.items() if suspect.kind == "independent"]
        if innocent:
            false[test] = accusations(innocent)._asdict()
    return {
        "tests": tests,
        "false_accusations": false,
        "judgement": judgement(place, served, shown[0]) if shown else None,
        "ledgers": {"victims": _owners(victims), "suspects": _owners(served)},
    }


def _stolen(place: Place) -> list[Suspect]:
    """Returns the largest thefts by attacks that ran at every budget, and puts copies where they are served."""
    protocol, found = place.protocol, []
    for run in extractions(protocol):
        copy = place.run_of(run.account) / "surrogate"
        if run.attack in protocol.every_budget and run.budget == protocol.budgets[-1] and copy.exists():
            found.append(Suspect(f"{run.attack}-{run.policy}", "stolen", run))
            shutil.copytree(copy, place.party("suspects") / found[-1].name)
    return found


def _independent(place: Place) -> list[Suspect]:
    return [Suspect(f"independent-{number}", "independent") for number in range(place.protocol.independents)]


@dataclass(frozen=True)
class _Owner:
    """The owner's commands.

    Attributes:
        place: The demo's folders.
        victims: The owner's server.
        suspects: The server of the suspects, where the owner is a customer.
    """

    place: Place
    victims: Server
    suspects: Server

    def plan(self, suspects: Sequence[Suspect]) -> dict[str, list[Suspect]]:
        """Returns which suspects each test is to test."""
        independent = [suspect for suspect in suspects if suspect.kind == "independent"]
        walked = {f"{BASELINE}-{policy}" for policy in WALKED_AT} | {"victim"}
        walked |= {suspect.name for suspect in independent[: self.place.protocol.walked]}
        marked = [suspect for suspect in suspects if suspect.theft and self._fetch_marks(suspect.theft)]
        return {
            "twin-test": list(suspects),
            "dawn": [*marked, *independent] if marked else [],
            "dataset-inference": [suspect for suspect in suspects if suspect.name in walked],
        }

    def job(self, test: str, suspect: Suspect) -> Job:
        """Returns the command that tests a suspect, under an account of its own."""
        account = f"{test}-{suspect.name}"
        if suspect.kind == "victim":
            url, model, key = self.victims.url, "open", self.victims.account(account, "owner")
        else:
            url, model, key = self.suspects.url, suspect.name, self.suspects.account(account, "customer")
        flags = [
            "--url",
            url,
            "--model",
            model,
            "--out",
            f"{test}/{suspect.name}.json",
            *self._flags(test, suspect),
        ]
        keys = {"MLAAS_KEY": key}
        if test == "dataset-inference":
            keys["MLAAS_VICTIM_KEY"] = self.victims.account(f"{account}-at-home", "owner")
        return Job(f"owner-{account}", ["owner", test, *flags], self._folder, keys)

    def evidence(self, test: str, suspect: Suspect) -> Evidence[Any]:
        """Returns what a test found about a suspect."""
        return load(self._folder / test / f"{suspect.name}.json", TESTS[test])

    def found(self, suspect: Suspect, evidence: Evidence[Any]) -> dict[str, Any]:
        """Returns evidence for the results, with what it cost."""
        server = self.victims if suspect.kind == "victim" else self.suspects
        return {
            "name": suspect.name,
            "kind": suspect.kind,
            "account": suspect.theft and suspect.theft.account,
            "accuracy": None if suspect.kind == "victim" else _accuracy(self.place, suspect.name),
            "money": server.ledgers()[f"{evidence.method}-{suspect.name}"]["micro_cents"],
            **{name: value for name, value in evidence.flat().items() if name not in LONG},
        }

    def _flags(self, test: str, suspect: Suspect) -> list[str]:
        protocol = self.place.protocol
        if test == "dataset-inference":
            sizes = {name: getattr(protocol, name) for name in ("fit_images", "test_images", "starts")}
            flags = [text for name, size in sizes.items() for text in (f"--{name.replace('_', '-')}", str(size))]
            flags += ["--victim", self.victims.url, "--victim-model", "open", "--features", "features.npz"]
            return [*flags, "--seed", str(self.place.seed)]
        controls = [f"controls/{number}" for number in range(protocol.controls)]
        if test == "twin-test":
            return [*_log(self.place), "--independent", *controls]
        longest = max(self._marks.iterdir(), key=lambda path: path.stat().st_size)
        marks = f"{suspect.theft.account}.json" if suspect.theft else longest.name
        return ["--marks", f"marks/{marks}", "--independent", *controls]

    def _fetch_marks(self, theft: Run) -> bool:
        """Fetches the marks of a thief's account; returns whether there are any."""
        marks = self.victims.marks(theft.policy, theft.account)
        if marks is not None:
            self._marks.mkdir(exist_ok=True)
            (self._marks / f"{theft.account}.json").write_bytes(marks)
        return marks is not None

    @property
    def _folder(self) -> Path:
        return self.place.party("owner")

    @property
    def _marks(self) -> Path:
        return self._folder / "marks"


def _log(place: Place) -> list[str]:
    return ["--study", str(place.study), "--log", str(_log_folder(place))]


def _log_folder(place: Place) -> Path:
    return place.study.with_name(f"{place.study.name}-log")


def _owners(server: Server) -> dict[str, int]:
    """Adds up what a server billed the owner's accounts for."""
    accounts = [ledger for name, ledger in server.ledgers().items() if name.startswith(tuple(TESTS))]
    return {entry: sum(ledger[entry] for ledger in accounts) for entry in ("rows", "requests", "micro_cents")}


def _accuracy(place: Place, name: str) -> Interval:
    evaluation = place.held["evaluation"]
    assert evaluation.y is not None
    labels = folder.load(place.out / "suspects" / name).predict(evaluation.x).argmax(axis=1)
    return metrics.agreement(labels, evaluation.y)
