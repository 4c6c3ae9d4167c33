"""The attackers of a demo: the runs of every registered attack, and what each is worth."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from attacker import EXTRACTION, MEMBERSHIP
from experiments import metrics
from experiments.demo.place import NULL, POLICIES, Place
from experiments.demo.sizes import Protocol
from experiments.header import cores
from experiments.null import blind, check
from experiments.parties import Job, Parties, Server
from wire import Array, Labels
from zoo import folder
from zoo.data import Pool

BASELINE = "knockoff"  # the attack whose rows are learned with their true labels, for comparison


@dataclass(frozen=True)
class Run:
    """One run of an attack.

    Attributes:
        attack: Its registered name.
        policy: The policy that it meets.
        budget: Most rows to ask about.
        files: Flags that name the attacker's files.
        settings: Hyper-parameters that differ from the defaults.
    """

    attack: str
    policy: str
    budget: int
    files: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def account(self) -> str:
        """The account that asks."""
        return f"{self.attack}-{self.policy}-{self.budget}"

    @property
    def arguments(self) -> list[str]:
        """The arguments of ``python -m attacker``, but for the seed."""
        endpoint = ["--model", self.policy, "--budget", str(self.budget), "--patience", "20"]
        return [self.attack, *endpoint, "--out", f"runs/{self.account}", *self.files, *_flags(self.settings)]


def extractions(protocol: Protocol) -> list[Run]:
    """Returns the runs of all registered extraction attacks, by budget, policy and attack."""
    middle = protocol.budgets[len(protocol.budgets) // 2]
    return [
        Run(attack, policy, budget, ("--pool", "pool.npz"), protocol.settings.get(attack, {}))
        for budget in protocol.budgets
        for policy in POLICIES
        for attack in EXTRACTION
        if attack in protocol.every_budget or budget == middle
    ]


def memberships(protocol: Protocol) -> list[Run]:
    """Returns the runs of all registered membership attacks, by policy and attack."""
    return [_membership(protocol, attack, policy) for policy in POLICIES for attack in MEMBERSHIP]


def _membership(protocol: Protocol, attack: str, policy: str) -> Run:
    settings = protocol.settings.get(attack, {})
    made = MEMBERSHIP[attack](**settings)
    rows = (2 * protocol.candidates + getattr(made, "population", 0)) * getattr(made, "queries", 1)
    files = ("--candidates", "candidates.npz", "--shadow", "shadow.npz")
    return Run(attack, policy, rows, files, settings)


def nulls(protocol: Protocol) -> list[Run]:
    """Returns the runs of all membership attacks against a model that has seen none of the candidates."""
    return [_membership(protocol, attack, NULL) for attack in MEMBERSHIP]


def attack(place: Place, parties: Parties, victims: Server) -> None:
    """Runs all attacks, each under an account of its own; each leaves its result in its folder."""
    thefts = sorted(extractions(place.protocol), key=lambda run: -run.budget)  # the longest first
    spies = [*memberships(place.protocol), *nulls(place.protocol)]
    # Whatever reference models the runs at the first policy train, the others find in the attacker's state.
    first = [run for run in spies if run.policy == spies[0].policy]
    runs = [*first, *thefts, *(run for run in spies if run not in first)]
    parties.run([_job(place, run, victims) for run in runs], at_once=cores(), label="attacks")


def stolen(place: Place, victim: Labels) -> list[dict[str, Any]]:
    """Returns the results of the extraction attacks, with what their surrogates are worth.

    Args:
        place: The demo's folders, rows and sizes.
        victim: The bare victim's labels of the evaluation rows, ``(n,)``.
    """
    results = [_result(place, run) for run in extractions(place.protocol)]
    return [
        result
        if result["status"] == "not applicable"  # it left no surrogate
        else {**result, **_worth(place, place.run_of(result["account"]) / "surrogate", victim)}
        for result in results
    ]


def spied(place: Place, truth: Array) -> list[dict[str, Any]]:
    """Returns the results of the membership attacks, measured.

    Args:
        place: The demo's folders, rows and sizes.
        truth: Which candidates are members, ``(n,)`` bool.
    """
    results = [_result(place, run) for run in memberships(place.protocol)]
    return [_with_scores(place, result, truth) for result in results]


def null(place: Place, truth: Array) -> dict[str, float]:
    """Returns the areas under the ROC of each membership attack on a model without members, and blindly.

    Args:
        place: The demo's folders, rows and sizes.
        truth: Which candidates are members, ``(n,)`` bool.

    Raises:
        NullFailed: The interval of one of them does not hold 1/2.
    """
    scores = {run.attack: _scores(place, run.account)[0] for run in nulls(place.protocol)}
    scores["blind"] = blind(Pool.load(place.party("attacker") / "candidates.npz").x, truth)
    return check(scores, truth)


def baselines(place: Place, parties: Parties, victim: Labels) -> list[dict[str, Any]]:
    """Trains Knockoff's surrogate on the true labels of Knockoff's rows: the worth of the rows alone."""
    pool = place.held["pool"]
    index_of = {row.tobytes(): index for index, row in enumerate(pool.x)}
    folders, jobs = [], []
    for run in extractions(place.protocol):
        if (run.attack, run.policy) != (BASELINE, "open"):
            continue
        left = place.run_of(run.account)
        with np.load(left / "transfer.npz", allow_pickle=False) as transfer:
            rows = pool.take([index_of[row.tobytes()] for row in transfer["x"]])
        card = folder.read_card(left / "surrogate")
        assert card.training is not None
        folders.append(place.party("baselines") / str(len(rows)))
        rows.save(folders[-1] / "rows.npz")
        arguments = ["zoo", "train", "--rows", "rows.npz", "--family", card.family, "--seed", str(place.seed)]
        arguments += [*_flags(dataclasses.asdict(card.training)), "--out", "model"]
        jobs.append(Job(f"baseline-{run.budget}", arguments, folders[-1]))
    parties.run(jobs, at_once=cores(), label="baselines")
    return [{"rows": int(path.name), **_worth(place, path / "model", victim)} for path in folders]


def _job(place: Place, run: Run, victims: Server) -> Job:
    environment = {
        "MLAAS_URL": victims.url,
        "MLAAS_KEY": victims.account(run.account, "customer"),
        "MLAAS_STATE": str(place.state / "attacker"),
    }
    arguments = ["attacker", *run.arguments, "--seed", str(place.attackers_seed)]
    return Job(run.account, arguments, place.party("attacker"), environment)


def _flags(settings: Mapping[str, Any]) -> list[str]:
    """Writes settings as flags."""
    flags = []
    for name, value in settings.items():
        values = value if isinstance(value, tuple | list) else [value]
        flags += [f"--{name.replace('_', '-')}", *map(str, values)]
    return flags


def _result(place: Place, run: Run) -> dict[str, Any]:
    result = place.result(run.account)
    kept = ("attack", "settings", "budget", "status", "reason", "rows", "requests", "money", "seconds")
    return {"account": run.account, "policy": run.policy, **{entry: result[entry] for entry in kept}}


def _with_scores(place: Place, result: dict[str, Any], truth: Array) -> dict[str, Any]:
    if result["status"] == "not applicable":
        return result
    scores, threshold = _scores(place, result["account"])
    return {**result, **metrics.membership(scores, truth, threshold)}


def _scores(place: Place, account: str) -> tuple[Array, float]:
    """Returns the scores of a run, and the attack's threshold."""
    with np.load(place.run_of(account) / "scores.npz", allow_pickle=False) as saved:
        return saved["scores"], float(saved["threshold"])


def _worth(place: Place, surrogate: Any, victim: Labels) -> dict[str, Any]:
    """Measures a surrogate's accuracy, and its agreement with the bare victim, on rows that no party has."""
    evaluation = place.held["evaluation"]
    assert evaluation.y is not None
    labels = folder.load(surrogate).predict(evaluation.x).argmax(axis=1)
    return {"accuracy": metrics.agreement(labels, evaluation.y), "agreement": metrics.agreement(labels, victim)}
