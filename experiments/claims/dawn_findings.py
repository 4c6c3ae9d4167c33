"""C4's numbers: costs and accusations, in the order in which they are printed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from experiments.claims.claim import Finding, over_seeds, share
from experiments.claims.dawn_case import AS_STOLEN, JITTERED, Cost, Suspicion

if TYPE_CHECKING:
    from experiments.claims.dawn_removal import C4

_PUBLISHED = {  # by the beginning of the change's name
    "pruned by 25%": "100 % (artefact)",
    "pruned by 40%": "100 % (artefact)",
    "pruned by 50%": "100 % (artefact)",
    "pruned by 75%": "61.5 % (artefact)",
    "pruned by 90%": "7.7 % (artefact)",
    "asked with noise 0.25": "100 % (artefact)",
    "asked with noise 0.5": "99.4 % (artefact)",
    "asked with noise 0.9": "74.2 % (artefact)",
    "fine-tuned": "87.0 and 92.1 % (test_evalguard, CIFAR-10)",
    JITTERED: "removed (smooth retraining, Lukas et al. 2022)",
}


def findings(claim: C4, costs: Sequence[Cost], suspicions: Sequence[Suspicion]) -> Iterator[Finding]:
    """Yields the findings of all data sets and rates."""
    for data in claim.data:
        for rate in claim.rates_of(data):
            setting = f"{data}, CNN victim, r_w = {rate:.1%}, at most {claim.budget:,} queries"
            here = [one for one in suspicions if (one.data, one.rate) == (data, rate)]
            yield from _customer(setting, rate, [one for one in costs if (one.data, one.rate) == (data, rate)])
            for thief in claim.thieves_at(rate):
                yield from _theft(setting, thief, [one for one in here if one.thief == thief])
        of = [one for one in suspicions if one.data == data]
        yield from _removals(f"{data}, r_w = {claim.rates[-1]:.1%}, after changes by the thief", claim, of)
        yield _false_accusations(f"{data}, models that were not stolen, at all rates", of)


def _customer(setting: str, rate: float, costs: Sequence[Cost]) -> Iterator[Finding]:
    lost = {one.seed: one.bare - one.marked for one in costs}
    expected = f"r_w times accuracy: {rate * median(one.bare for one in costs):.2%}"
    yield over_seeds("customer: accuracy lost", setting, "0.03 to 0.5 %", lost, baseline=expected, unit="share")
    changed = {one.seed: one.changed for one in costs}
    yield over_seeds("customer: answers changed", setting, "r_w", changed, baseline=f"{rate:.1%}", unit="share")


def _theft(setting: str, thief: str, suspicions: Sequence[Suspicion]) -> Iterator[Finding]:
    stolen = [one for one in suspicions if one.suspect == AS_STOLEN]
    others = [one for one in suspicions if not one.stolen]
    row = partial(_over, stolen, setting)
    yield row(f"{thief}: rows queried", "none", lambda one: one.asked, unit="rows")
    yield row(f"{thief}: marks", "13 (artefact)", lambda one: one.marks, unit="marks")
    yield row(f"{thief}: mark accuracy{_accused(stolen)}", "13 of 13 (artefact)", _mark_accuracy, _chance(others))
    yield row(f"{thief}: test accuracy", "none", lambda one: one.accuracy, _accuracy(others))
    yield row(f"{thief}: confidence at L = 0.5", "> 64 bits", lambda one: _bits(one.tail), "0", unit="bits")
    yield row(f"{thief}: confidence at its L", "> 64 bits", lambda one: _bits(one.p_value), "0", unit="bits")
    yield row(f"{thief}: p0, bounded", "1/m", lambda one: one.p0, _chance(others))


def _removals(setting: str, claim: C4, suspicions: Sequence[Suspicion]) -> Iterator[Finding]:
    for thief in claim.thieves:
        of = [one for one in suspicions if one.thief == thief and one.rate == claim.rates[-1]]
        chance, accuracy = (
            _chance([one for one in of if not one.stolen]),
            _accuracy([one for one in of if not one.stolen]),
        )
        for name in dict.fromkeys(one.suspect for one in of if one.stolen):
            changed = [one for one in of if one.suspect == name]
            published = next((figure for start, figure in _PUBLISHED.items() if name.startswith(start)), "none")
            what = f"{thief}, {name}: mark accuracy{_accused(changed)}"
            yield _over(changed, setting, what, published, _mark_accuracy, chance)
            yield _over(
                changed, setting, f"{thief}, {name}: test accuracy", "none", lambda one: one.accuracy, accuracy
            )


def _false_accusations(setting: str, suspicions: Sequence[Suspicion]) -> Finding:
    """Counts the independent models that the marks of any thief accuse."""
    verdicts: dict[tuple[int, str], bool] = {}
    for one in suspicions:
        if not one.stolen:
            model = one.seed, one.suspect
            verdicts[model] = verdicts.get(model, False) or one.verdict == "accused"
    seeds = dict.fromkeys(seed for seed, _ in verdicts)
    return share(
        "independent models accused",
        setting,
        "none",
        sum(verdicts.values()),
        len(verdicts),
        seeds=seeds,
        baseline="2^-64",
    )


def _over(
    suspicions: Sequence[Suspicion],
    setting: str,
    what: str,
    published: str,
    number: Callable[[Suspicion], float],
    baseline: str = "",
    unit: str = "share",
) -> Finding:
    values = {one.seed: number(one) for one in suspicions}
    return over_seeds(what, setting, published, values, baseline=baseline, unit=unit)


def _mark_accuracy(one: Suspicion) -> float:
    return one.matches / one.marks


def _accused(suspicions: Sequence[Suspicion]) -> str:
    return f" ({sum(one.verdict == 'accused' for one in suspicions)} of {len(suspicions)} accused)"


def _chance(independent: Sequence[Suspicion]) -> str:
    hits, marks = sum(one.matches for one in independent), sum(one.marks for one in independent)
    return f"independent: {hits / marks:.1%}"


def _accuracy(independent: Sequence[Suspicion]) -> str:
    return f"independent: {median(one.accuracy for one in independent):.1%}"


def _bits(chance: float) -> float:
    return max(0.0, -math.log2(max(chance, 2.0**-1074)))  # the least positive float
