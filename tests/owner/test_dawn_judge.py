"""The claim and its judge, on models whose answers are a table."""

import asyncio
import dataclasses
import json
import math
import subprocess
import sys

import numpy as np
import pytest

from defenses import Dawn as Watermark
from defenses import Site, compose
from defenses.store import open_store
from defenses.watermarks.key import WatermarkKey
from defenses.watermarks.ledger import Broken, Mark, MarkLedger, WatermarkParameters, encode_rows
from defenses.watermarks.mapping import cells
from owner.dawn import Claim, Dawn, counted
from owner.evidence import describe, load
from owner.judge import Rejected, Victim, judge
from owner.marks_held import MarksHeld
from owner.ownership import prove
from wire import Answer, BadInput, Card, Oracle, Query
from zoo.data.pool import Pool  # noqa: F401  # zoo before torch

SECRET = bytes(range(32))
KEY = SECRET.hex()
CARD = Card("victim", (6,), 10, low=None, high=None)
X = np.random.default_rng(0).standard_normal((1200, 6)).astype(np.float32)
PLANES = np.random.default_rng(1).standard_normal((6, 10))


def truth(x, noise=0.0, seed=0):
    """A model's labels; with noise those of another model of the same task."""
    planes = PLANES + noise * np.random.default_rng(seed).standard_normal(PLANES.shape)
    return (x @ planes).argmax(axis=1)


def oracle(labels_of, asked=None):
    def transport(x):
        if asked is not None:
            asked.append(len(x))
        return Answer(labels_of(x))

    return Oracle(transport, CARD)


VICTIM = oracle(truth)
OTHERS = {f"other {seed}": oracle(lambda x, seed=seed: truth(x, 0.3, seed)) for seed in (11, 12)}


async def _opening(steps):
    store = open_store("sqlite://")
    await steps(store)
    made = await MarkLedger(store, "victim").commit(9.0)
    opening = await MarkLedger(store, "victim").open("thief")
    await store.close()
    assert opening.root == made.root
    return opening


def common(rate=0.2, grid=None):
    return WatermarkParameters("victim", rate, 10, WatermarkKey(SECRET).commitment, "ab", grid=grid)


def served(rows=X, grid=None):
    """The labels that the thief got, and the ledger's opening."""
    told = {}

    async def steps(store):
        async def victim(query):
            labels = truth(query.x)
            probs = np.full((len(labels), 10), 0.05, np.float32)
            probs[np.arange(len(labels)), labels] = 0.55
            return Answer(labels, probs)

        await MarkLedger(store, "victim").begin(common(grid=grid))
        layer = Watermark(0.2).bind(Site("victim", CARD, "ab", SECRET, store, None, None))
        await layer.start()
        answer = await compose([layer], victim)(Query("thief", rows, 1.0))
        told.update({row.tobytes(): int(label) for row, label in zip(rows, answer.labels, strict=True)})

    return told, asyncio.run(_opening(steps))


def forged(marks, rate=0.2, medians=None):
    """An opening whose root binds just these marks, under the same commitment to key and victim."""

    async def steps(store):
        ledger = MarkLedger(store, "victim")
        made = None if medians is None else lambda: asyncio.sleep(0, medians)
        await ledger.begin(common(rate), made)
        for mark in marks:
            await ledger.add("thief", [mark])
            ledger._held["thief"].rows.clear()  # a forger need not register a row only once

    return asyncio.run(_opening(steps))


def undecided():
    """A row that the key leaves alone, and what the key would tell of it."""
    keys, (form, rows) = WatermarkKey(SECRET), encode_rows(X[:20])
    i = next(i for i in range(20) if i not in keys.marked(0.2, form, rows))
    said = int(truth(X[i : i + 1])[0])
    return Mark(form, bytes(rows[i]), said, keys.false_label(form, bytes(rows[i]), said, 10), 1.0)


TOLD, OPENING = served()
COMMON, MARKS = OPENING.verified()


def surrogate(forgets=0.0):
    """Learnt what it was told, but for a share of it."""

    def labels_of(x):
        labels = truth(x)
        for i, row in enumerate(x):
            if row.tobytes() in TOLD and int.from_bytes(row.tobytes(), "little") % 100 >= 100 * forgets:
                labels[i] = TOLD[row.tobytes()]
        return labels

    return oracle(labels_of)


def accused(suspect, opening=None, others=None, method=None):
    """Evidence of the owner, by default about the thief's marks, and the marks' details."""
    claim = Claim(opening or OPENING, OTHERS if others is None else others)
    found = prove(method or Dawn(), suspect, claim, np.random.default_rng(0))
    return found, found.details


def judged(opening=None, *, evidence=None, key=KEY, root=None, victim=None, suspect=None, others=None):
    """Evidence of a judge, and its details; ``evidence`` replaces the opening in the owner's."""
    opening = opening or OPENING
    found, details = accused(surrogate(), evidence or opening, {})
    found = dataclasses.replace(found, details=dataclasses.replace(details, opening=opening, key=key))
    others = OTHERS if others is None else others
    found = judge(
        Dawn(), found, root or opening.root, victim or Victim(VICTIM, "ab"), suspect or surrogate(), others
    )
    return found, found.details


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


async def test_a_judge_says_that_the_owner_could_have_chosen_the_account():
    async def steps(store):
        ledger = MarkLedger(store, "victim")
        await ledger.begin(COMMON)
        for account in ("thief", "alice", "bob"):
            await ledger.add(account, MARKS)

    found, _ = judged(await _opening(steps))
    assert "best 1 of 3 accounts" in found.caution and "accounts" not in judged()[0].caution
