"""The claim and its judge, on models whose answers are a table."""

import dataclasses
import json

import numpy as np
import pytest

from defenses.watermarks.key import WatermarkKey
from defenses.watermarks.ledger import Broken, Mark, MarkLedger, encode_rows
from defenses.watermarks.mapping import cells
from owner.evidence import load
from owner.judge import Rejected, Victim
from owner.marks_held import MarksHeld
from tests.owner.dawn_court import (
    COMMON,
    MARKS,
    OPENING,
    OTHERS,
    SECRET,
    TOLD,
    VICTIM,
    X,
    _opening,
    accused,
    forged,
    judged,
    oracle,
    served,
    surrogate,
    truth,
)
from wire import BadInput
from zoo.data.pool import Pool  # noqa: F401  # zoo before torch


@pytest.fixture(autouse=True)
def told():
    """What the thief was told, as before the test; marks of cells are added to it."""
    kept = dict(TOLD)
    yield
    TOLD.clear()
    TOLD.update(kept)


def undecided():
    """A row that the key leaves alone, and what the key would tell of it."""
    keys, (form, rows) = WatermarkKey(SECRET), encode_rows(X[:20])
    i = next(i for i in range(20) if i not in keys.marked(0.2, form, rows))
    said = int(truth(X[i : i + 1])[0])
    return Mark(form, bytes(rows[i]), said, keys.false_label(form, bytes(rows[i]), said, 10), 1.0)


def test_the_judge_finds_what_the_owner_found():
    found, held = judged()
    owner, owners = accused(surrogate())
    assert found.verdict == "accused" and held.key == SECRET.hex() and held.doubtful == 0
    assert (held.matches, held.tail, held.p0) == (owners.matches, owners.tail, owners.p0)
    assert found.p_value == owner.p_value and "weights" not in found.caution
    assert judged(suspect=OTHERS["other 11"])[0].verdict == "inconclusive"
    unseen, _ = judged(victim=Victim(VICTIM))
    assert unseen.verdict == "accused" and "weights were not compared" in unseen.caution


def test_marks_on_a_grid_are_judged_by_their_points():
    _, opening = served(X, grid="bits")
    found, held = judged(opening, suspect=oracle(lambda x: told_on_the_grid(x, opening)))
    assert found.verdict == "accused" and held.matches == held.marks > 150


def told_on_the_grid(x, opening):
    marks = {mark.row: mark.told_label for mark in opening.verified()[1]}
    return np.array([marks.get(row.tobytes(), label) for row, label in zip(x, truth(x), strict=True)])


def hand_picked():
    """Rows on which independent models agree with each other and not with the victim."""
    x = np.random.default_rng(9).standard_normal((20_000, 6)).astype(np.float32)
    said, one, two = truth(x), *(o.query(x).labels for o in OTHERS.values())
    rows = np.flatnonzero((one == two) & (one != said))
    form, encodings = encode_rows(x[rows])
    return [Mark(form, bytes(encodings[j]), int(said[i]), int(one[i]), 1.0) for j, i in enumerate(rows)]


def test_hand_picked_triggers_are_caught_before_the_suspect_is_asked():
    picked = forged(hand_picked()[:200])
    innocent = OTHERS["other 11"]
    assert accused(innocent, picked, {})[1].matches == 200  # what the owner would claim
    asked = []
    with pytest.raises(Rejected, match=r"picked by hand|but the key gives"):
        judged(picked, suspect=oracle(truth, asked))
    assert not asked


def test_rows_that_were_tried_until_the_key_liked_them_accuse_nobody():
    keys = WatermarkKey(SECRET)
    liked = [
        mark
        for mark in hand_picked()
        if keys.marked(0.2, mark.form, [mark.row])
        and keys.false_label(mark.form, mark.row, mark.victim_label, 10) == mark.told_label
    ]
    assert len(liked) > 20
    found, held = judged(forged(liked), suspect=OTHERS["other 11"], others={"another": OTHERS["other 12"]})
    assert held.matches == len(liked) and held.p0 == 1.0 and found.verdict == "inconclusive"


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"key": None}, "does not reveal the key"),
        ({"key": "zz"}, "does not reveal the key"),
        ({"key": "00" * 32}, "does not match the commitment"),
        ({"root": "ab" * 32}, "was published"),
        ({"victim": Victim(VICTIM, "cd")}, "the victim's weights have SHA-256 cd"),
        ({"victim": Victim(surrogate(), "ab")}, "are the victim's own answers"),
        (
            {"opening": forged([dataclasses.replace(MARKS[0], told_label=(MARKS[0].told_label + 1) % 10)])},
            "but the key gives",
        ),
        (
            {"opening": forged([dataclasses.replace(MARKS[0], victim_label=10)])},
            "victim's label 10; expected 0 to 9",
        ),
        ({"opening": forged([undecided()])}, "picked by hand"),
        ({"opening": forged([MARKS[0], MARKS[0]])}, "repeats the row of an earlier mark"),
        ({"opening": dataclasses.replace(OPENING, entries=OPENING.entries[:-1])}, "do not match the commitment"),
    ],
)
def test_the_judge_rejects_what_does_not_follow_from_the_commitment(changes, fault):
    asked = []
    with pytest.raises((Rejected, Broken), match=fault):
        judged(evidence=OPENING, suspect=oracle(truth, asked), **changes)
    assert not asked


def test_marks_that_the_judges_runtime_answers_as_told_count_as_failed_and_void_nothing():
    """Rows at a border: on 42 % of those that a thief bisected, two runtimes disagreed."""
    rng = np.random.default_rng(0)
    spoilt = {mark.row: mark.told_label for mark in MARKS if rng.random() < 0.42}

    def answers(x):
        return np.array([spoilt.get(row.tobytes(), label) for row, label in zip(x, truth(x), strict=True)])

    found, held = judged(victim=Victim(oracle(answers), "ab"))
    assert held.doubtful == len(spoilt) > 80 and held.matches == len(MARKS) - len(spoilt)
    assert found.verdict == "accused"


def test_marks_that_the_victim_no_longer_bears_out_count_as_failed():
    moved = {mark.row for mark in MARKS[:7]}

    def answers(x):
        labels = truth(x)
        for i, row in enumerate(x):
            if row.tobytes() in moved:
                labels[i] = next(k for k in range(10) if k not in (labels[i], TOLD[row.tobytes()]))
        return labels

    _, held = judged(victim=Victim(oracle(answers), "ab"))
    assert held.doubtful == 7 and held.matches == len(MARKS) - 7


LAYER = np.random.default_rng(2).standard_normal((6, 80)).astype(np.float32)


def activations(x):
    return (x[:, :, None] * LAYER).sum(axis=1)


def marks_of_cells(changed=None):
    """Marks of cells: each row was asked about, and a near-duplicate; ``changed`` forges one mark."""
    x = np.concatenate([X, X * np.float32(1 + 1e-6)])
    limits = np.median(activations(X), axis=0)
    form, rows = encode_rows(x)
    name, points = cells(activations(x) > limits)
    keys, labels = WatermarkKey(SECRET), truth(x).tolist()
    marks = [
        Mark(form, rows[i], label, keys.false_label(name, points[i], label, 10), 1.0, points[i].hex())
        for i, label in ((i, labels[i]) for i in keys.marked(0.2, name, points))
    ]
    TOLD.update({mark.row: mark.told_label for mark in marks})
    return forged([changed(mark) for mark in marks] if changed else marks, medians=limits)


def seen(activations_of=activations):
    return Victim(VICTIM, "ab", activations_of)


def test_a_judge_counts_one_of_each_cell():
    opening = marks_of_cells()
    _, marks = opening.verified()
    distinct = len({mark.cell for mark in marks})
    found, held = judged(opening, victim=seen())
    assert found.verdict == "accused" and held.doubtful == 0
    assert (held.marks, held.repeated) == (distinct, len(marks) - distinct) and held.repeated > 200
    assert judged(opening, victim=seen(), suspect=OTHERS["other 11"])[0].verdict == "inconclusive"
    spelt = marks_of_cells(lambda mark: dataclasses.replace(mark, cell=mark.cell.upper()) if mark.form else mark)
    assert judged(spelt, victim=seen())[1].marks == distinct


def test_a_mark_that_rounding_puts_elsewhere_counts_as_failed():
    opening = marks_of_cells()
    limits = np.median(activations(X), axis=0)
    first = activations(opening.verified()[1][0].x[None])[0]
    near = int(np.abs(first - limits).argmin())

    def computed(x):
        found = activations(x)
        found[0, near] = limits[near] - np.sign(first - limits)[near] * 1e-6
        return found

    assert judged(opening, victim=seen(computed))[1].doubtful == 1


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"victim": seen(None)}, "give the victim's folder"),
        (
            {"victim": seen(lambda x: activations(x)[:, 1:])},
            "80 medians, but the victim's penultimate layer has 79",
        ),
        ({"victim": seen(lambda x: activations(x[::-1]))}, "mark 0 does not have the cell"),
        ({"changed": lambda mark: dataclasses.replace(mark, cell=mark.cell + "00")}, "picked by hand"),
        ({"changed": lambda mark: dataclasses.replace(mark, cell="zz")}, "expected hexadecimal"),
        ({"changed": lambda mark: dataclasses.replace(mark, cell=None)}, "picked by hand"),
    ],
)
def test_the_judge_sees_whether_the_victim_puts_a_row_into_its_cell(changes, fault):
    opening = marks_of_cells(changes.get("changed"))
    with pytest.raises(BadInput, match=fault):
        judged(opening, evidence=OPENING, victim=changes.get("victim", seen()))


def test_evidence_comes_back_from_its_file(tmp_path):
    found, _ = judged()
    path = tmp_path / "evidence.json"
    found.save(path)
    assert load(path, MarksHeld) == found
    path.write_text("{}")
    with pytest.raises(BadInput, match="not evidence of this method"):
        load(path, MarksHeld)
    path.write_text(json.dumps({"verdict": "accused", "marks": 3, "opening": {"account_proof": {}}}))
    with pytest.raises(BadInput, match="evidence of an earlier version: run the proof again"):
        load(path, MarksHeld)


async def test_a_judge_says_that_the_owner_could_have_chosen_the_account():
    async def steps(store):
        ledger = MarkLedger(store, "victim")
        await ledger.begin(COMMON)
        for account in ("thief", "alice", "bob"):
            await ledger.add(account, MARKS)

    found, _ = judged(await _opening(steps))
    assert "best 1 of 3 accounts" in found.caution and "accounts" not in judged()[0].caution
