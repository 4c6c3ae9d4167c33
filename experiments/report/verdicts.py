"""The verdicts about each theft: what it cost, whether it was caught, and which tests prove it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

Run = Mapping[str, Any]


class Verdict(NamedTuple):
    """The outcome of a theft.

    Attributes:
        theft: The run of the attack.
        alarm: The first alarm of the thief's account; None without one.
        evidence: What each test found about the copy, by its name.
    """

    theft: Run
    alarm: Run | None
    evidence: dict[str, Run]


def tests_of(results: Run) -> dict[str, list[Run]]:
    """Returns the evidence of each test; earlier demos ran dataset inference only."""
    ownership = results["ownership"]
    return dict(ownership.get("tests") or {"dataset-inference": ownership["suspects"]})


def false_accusations(results: Run) -> dict[str, Run]:
    """Returns for each test how many independent models it accused, with the exact 95 % interval."""
    ownership = results["ownership"]
    if "false_accusations" in ownership:
        return dict(ownership["false_accusations"])
    return {"dataset-inference": ownership["independents_accused"]}


def verdicts(results: Run) -> list[Verdict]:
    """Returns the verdicts about the thefts that the owner tested, in the order of the tests."""
    tests, alarms = tests_of(results), dict[str, Run]()
    for alarm in sorted(results.get("alarms", ()), key=lambda alarm: -alarm["row"]):
        alarms[alarm["account"]] = alarm  # the first one stays
    thefts = {run["account"]: run for run in results["extraction"]}
    names = {one["name"]: one["account"] for found in tests.values() for one in found if one.get("account")}
    return [
        Verdict(
            theft=thefts[account],
            alarm=alarms.get(account),
            evidence={test: one for test, found in tests.items() for one in found if one["name"] == name},
        )
        for name, account in names.items()
        if account in thefts
    ]
