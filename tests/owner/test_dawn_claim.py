"""What an owner claims of DAWN's marks: stolen models are accused, and independent ones are not."""

import asyncio
import dataclasses
import math
import subprocess
import sys

import numpy as np
import pytest

from defenses.store import open_store
from defenses.watermarks.ledger import Mark, MarkLedger, encode_rows
from owner.counted_marks import counted
from owner.dawn import Claim, Dawn
from owner.evidence import describe
from owner.judge import Victim, judge
from owner.ownership import prove
from tests.owner.dawn_court import (
    KEY,
    MARKS,
    OTHERS,
    VICTIM,
    X,
    _opening,
    accused,
    common,
    forged,
    judged,
    oracle,
    served,
    surrogate,
    truth,
)
from wire import Answer, BadInput, Card, Oracle
from zoo.data.pool import Pool  # noqa: F401  # zoo before torch


def test_a_stolen_model_is_accused_and_an_independent_one_is_not():
    found, held = accused(surrogate(0.2))
    assert found.verdict == "accused" and held.missing == 0
    assert held.marks == found.suspect_queries == len(MARKS) > 150 and 0.1 < held.mark_error < 0.3
    assert held.matches == round((1 - held.mark_error) * held.marks)
    assert found.p_value < held.tail < found.alpha == 2.0**-64
    for seed in (5, 6, 7):
        found, held = accused(oracle(lambda x, seed=seed: truth(x, 0.3, seed)))
        assert found.verdict == "inconclusive" and held.missing is None and held.mark_error > 0.8
    assert accused(VICTIM)[1].matches == 0


def test_chance_is_measured_on_independent_models():
    agreed = {
        name: sum(int(model.query(mark.x[None]).labels[0] == mark.told_label) for mark in MARKS)
        for name, model in OTHERS.items()
    }
    _, held = accused(surrogate())
    assert held.independent == agreed
    assert held.p0 > max(agreed.values()) / len(MARKS)
    assert accused(surrogate(), others={})[1].p0 == 0.1
    alike, held = accused(surrogate(), others={"a copy": surrogate()})
    assert alike.verdict == "inconclusive" and held.p0 == 1.0  # what others answer as well proves nothing


def test_too_few_marks_are_inconclusive_and_the_number_that_is_missing_is_named():
    _, few = served(X[:60])
    marks = few.verified()[1]
    found, held = accused(surrogate(), few, {})
    assert 4 < held.matches == len(marks) < 20  # 10^-20 is below 2^-64, 10^-19 is not
    assert found.verdict == "inconclusive" and held.missing == 20 - len(marks)
    assert f"next: {20 - len(marks)} more marks needed" in describe(found)
    assert accused(surrogate(), few, {}, Dawn(bits=10))[0].verdict == "accused"
    assert accused(surrogate(), few, {}, Dawn(error=0.0))[0].verdict == "inconclusive"  # L must be less


def test_the_verdict_is_the_exact_tail_of_what_was_observed():
    """50 of 50 marks, which a rule for an error of one half would call too few."""
    fifty = forged(MARKS[:50])
    found, held = accused(surrogate(), fifty, {})
    assert (held.matches, held.marks, held.missing) == (50, 50, 0)
    assert found.verdict == "accused" and found.p_value == pytest.approx(1e-50)
    assert held.tail > 2.0**-64  # what the paper asks for is not reached
    assert accused(surrogate(), fifty, {}, Dawn(bits=165))[0].verdict == "accused"
    assert accused(surrogate(), fifty, {}, Dawn(bits=167))[0].verdict == "inconclusive"


def test_the_owners_choice_of_an_account_is_counted():
    async def steps(store):
        ledger = MarkLedger(store, "victim")
        await ledger.begin(common())
        for name in ("thief", *map(str, range(999))):
            await ledger.add(name, MARKS[:20])

    found, held = accused(surrogate(), asyncio.run(_opening(steps)), {})
    assert found.p_value == pytest.approx(1000 * 1e-20)
    assert found.verdict == "inconclusive" and held.missing == 3
    judge_found, _ = judged(asyncio.run(_opening(steps)), others={})
    assert judge_found.p_value == found.p_value and "multiplied" in judge_found.caution


def split_over(accounts, named="thief"):
    """The openings of a theft that was split over accounts, beside 20 customers, under one root."""

    async def steps(store):
        ledger = MarkLedger(store, "victim")
        await ledger.begin(common())
        for i in range(accounts):
            await ledger.add(f"{named} {i}", MARKS[i : 2 * 6 * accounts : accounts])
        for i in range(20):
            await ledger.add(f"customer {i}", MARKS[150 + i : 152 + i])
        await ledger.commit(1.0)
        return [await ledger.open(f"{named} {i}") for i in range(accounts)]

    async def run():
        store = open_store("sqlite://")
        try:
            return await steps(store)
        finally:
            await store.close()

    return asyncio.run(run())


def test_a_claim_over_the_accounts_of_one_theft_counts_their_choice():
    first, *others = split_over(4)
    alone, _ = accused(surrogate(), first, {})
    assert alone.details.marks == 12 and alone.verdict == "inconclusive"
    claim = Claim(first, {}, others=tuple(others))
    found = prove(Dawn(), surrogate(), claim, np.random.default_rng(0))
    assert found.details.marks == found.details.matches == 48
    assert found.p_value == pytest.approx(math.comb(24, 4) * 1e-48) and found.verdict == "accused"
    assert "thief 0, thief 1, thief 2, thief 3" in describe(found)
    details = dataclasses.replace(found.details, key=KEY)
    again = judge(
        Dawn(), dataclasses.replace(found, details=details), first.root, Victim(VICTIM, "ab"), surrogate(), {}
    )
    assert again.p_value == found.p_value and "best 4 of 24 accounts" in again.caution
    innocent = prove(Dawn(), OTHERS["other 11"], claim, np.random.default_rng(0))
    assert innocent.verdict == "inconclusive"


def test_accounts_of_a_claim_are_different_and_under_one_root():
    first, second = split_over(2)
    (elsewhere,) = split_over(1, named="else")
    for others in ((first,), (elsewhere,)):
        with pytest.raises(BadInput, match="different accounts under one root"):
            accused_of = Claim(first, {}, others=others)
            prove(Dawn(), surrogate(), accused_of, np.random.default_rng(0))
    assert counted(first, (second,))[1] == MARKS[:24:2] + MARKS[1:24:2]


def test_bytes_are_asked_about_as_the_card_has_them():
    x = np.arange(60, dtype=np.uint8).reshape(10, 6)
    form, rows = encode_rows(x)
    asked = []

    def labels_of(rows):
        asked.append(rows)
        return np.zeros(len(rows), np.int64)

    opening = forged([Mark(form, bytes(row), 1, 0, 1.0) for row in rows])
    accused(oracle(labels_of), opening, {})
    np.testing.assert_array_equal(asked[0], x.astype(np.float32) / np.float32(255))


@pytest.mark.parametrize(
    ("card", "fault"),
    [(Card("m", (7,), 10), r"takes rows of shape \(7,\)"), (Card("m", (6,), 9), "has 9 classes")],
)
def test_marks_that_do_not_fit_a_model_are_told(card, fault):
    with pytest.raises(BadInput, match=fault):
        accused(Oracle(lambda x: Answer(truth(x)), card))


@pytest.mark.parametrize("fields", [{"error": 1.0}, {"error": -0.1}, {"bits": 0.0}, {"bits": float("nan")}])
def test_settings_without_sense_are_refused(fields):
    with pytest.raises(BadInput, match="error must lie between 0 and 1"):
        Dawn(**fields)


def test_the_owner_needs_nothing_of_a_servers_install():
    hidden = ("redis", "fastapi_offline", "uvicorn", "prometheus_client", "onnxruntime")
    code = f"import sys; sys.modules.update(dict.fromkeys({hidden})); import owner.command"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
