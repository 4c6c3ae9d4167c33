import asyncio
import hashlib
import hmac
import sqlite3
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import stats
from sites import site

from defenses import (
    Dawn,
    GaussianNoise,
    LabelFlips,
    LabelOnly,
    LaplaceNoise,
    Monitored,
    Prada,
    Quota,
    Reaction,
    Redundant,
    ReverseSigmoid,
    Rounding,
    Stage,
    StandingAlarm,
    Temperature,
    TopK,
    check_order,
    compose,
    disclosed,
)
from defenses.store import open_store
from defenses.watermarks.dawn import Keys, exchanged
from defenses.watermarks.ledger import MarkLedger
from defenses.watermarks.ledger.commitment import log_of
from defenses.watermarks.survival import check_survival, lost
from wire import Answer, BadInput, Card, Query, Refused

SECRET = bytes(range(32))
CARD = Card("m", (4,), 5)
X = np.random.default_rng(0).standard_normal((400, 4)).astype(np.float32)


def probs_of(x, classes=5):
    rng = np.random.default_rng([abs(int(v * 1000)) for v in x.reshape(len(x), -1)[:, 0]])
    return rng.dirichlet(np.full(classes, 0.3), len(x)).astype(np.float32)


PROBS = probs_of(X)


def victim(x, probs):
    known = {row.tobytes(): p for row, p in zip(x, probs, strict=True)}

    async def handle(query):
        said = np.stack([known[row.tobytes()] for row in query.x])
        return Answer(said.argmax(axis=1), said)

    return handle


def expected(row, said, classes, rate, secret=SECRET):
    """The told label of a float32 row, or None: by the standard library alone."""
    message = f"<f4 {'x'.join(map(str, row.shape))}\n".encode() + row.tobytes()
    keys = [hmac.digest(secret, use, "sha256") for use in (b"dawn decision", b"dawn label")]
    first, second = (hmac.new(key, message, hashlib.sha256).digest() for key in keys)
    if int.from_bytes(first[:16], "big") >= rate * 2**128:
        return None
    others = [label for label in range(classes) if label != said]
    return others[int.from_bytes(second[:16], "big") % len(others)]


def dawn(store, rate=0.2, **changes):
    at = {"card": CARD, "fingerprint": "ab", "secret": SECRET, "store": store} | changes
    return Dawn(rate).bind(site(**at))


def run(url, *steps):
    """Runs asynchronous steps on a store that is opened for them, and returns what they return."""

    async def main():
        store = open_store(url)
        try:
            return [await step(store) for step in steps]
        finally:
            await store.close()

    return asyncio.run(main())


def asking(x, account="a", layers=None, rate=0.2, at=7.0):
    async def step(store):
        defense = dawn(store, rate)
        await defense.start()
        return await compose([*(layers or []), defense], victim(X, PROBS))(Query(account, x, at))

    return step


def opened(account="a"):
    async def step(store):
        register = MarkLedger(store, "m")
        made = await register.commit(9.0)
        return made, await MarkLedger(store, "m").open(account)

    return step


def test_decisions_and_labels_are_what_hmac_says(store_url):
    (answer,) = run(store_url, asking(X))
    said = PROBS.argmax(axis=1)
    for i, row in enumerate(X):
        told = expected(row, said[i], 5, 0.2)
        assert answer.labels[i] == (said[i] if told is None else told)
        if told is None:
            np.testing.assert_array_equal(answer.probs[i], PROBS[i])
        else:
            swapped = PROBS[i].copy()
            swapped[[said[i], told]] = swapped[[told, said[i]]]
            np.testing.assert_array_equal(answer.probs[i], swapped)
    marked = (answer.labels != said).sum()
    assert stats.binomtest(int(marked), len(X), 0.2).pvalue > 1e-3
    np.testing.assert_array_equal(answer.probs.argmax(axis=1), answer.labels)
    np.testing.assert_array_equal(PROBS, probs_of(X))  # the victim's own answer is left alone


def test_all_that_ask_the_same_are_told_the_same(store_url):
    both = run(store_url, asking(X), asking(X[::-1], "b"), asking(X))
    assert sum(len(a.labels) for a in both) == 3 * len(X)
    (later,) = run(store_url, asking(X[::2]))  # after a restart, in other company
    np.testing.assert_array_equal(both[0].labels, both[1].labels[::-1])
    np.testing.assert_array_equal(both[0].probs, both[2].probs)
    np.testing.assert_array_equal(later.probs, both[0].probs[::2])


def test_the_rate_is_kept_and_told_classes_are_even():
    x = np.random.default_rng(1).random((20_000, 3), np.float32)
    said = np.zeros(len(x), np.int64)

    async def handle(query):
        return Answer(said, np.eye(10, dtype=np.float32)[said])

    async def step(store):
        return await dawn(store, 0.01)(Query("a", x, 0.0), handle)

    (answer,) = run("sqlite://", step)
    told = answer.labels[answer.labels != 0]
    assert stats.binomtest(len(told), len(x), 0.01).pvalue > 1e-3
    assert stats.chisquare(np.bincount(told, minlength=10)[1:]).pvalue > 1e-3


def test_the_decision_is_taken_by_128_bits():
    keys, rows = Keys(SECRET), [bytes([i]) for i in range(50)]
    for row in rows:
        key = hmac.digest(SECRET, b"dawn decision", "sha256")
        drawn = int.from_bytes(hmac.digest(key, b"form\n" + row, "sha256")[:16], "big") / 2**128
        assert keys.marked(np.nextafter(drawn, 1), "form", [row]) == [0]
        assert keys.marked(np.nextafter(drawn, 0), "form", [row]) == []


def test_the_answer_that_is_changed_is_a_copy():
    answer = Answer(np.int64([1, 0]), np.float32([[0.2, 0.8], [1, 0]]))
    told = exchanged(answer, np.array([0]), np.array([0]))
    assert told.labels.tolist() == [0, 0] and told.probs[0].tolist() == answer.probs[0, ::-1].tolist()
    assert answer.labels.tolist() == [1, 0] and answer.probs[0, 0] < 0.5


def test_rows_that_no_model_tells_apart_are_one_row():
    x = np.float32([[0.0, np.nan], [-0.0, -np.nan]] * 200) + np.repeat(np.arange(200), 2)[:, None].astype(
        np.float32
    )
    x[:2, 0] = 0.0, -0.0
    probs = np.full((400, 2), 0.5, np.float32)

    async def handle(query):
        return Answer(np.zeros(400, np.int64), probs)

    async def step(store):
        return await dawn(store, 0.5)(Query("a", x, 0.0), handle)

    (answer,) = run("sqlite://", step)
    np.testing.assert_array_equal(answer.labels[::2], answer.labels[1::2])
    assert 0 < answer.labels.sum() < 400
    np.testing.assert_array_equal(answer.probs.argmax(axis=1), answer.labels)  # even where all were alike


@pytest.mark.parametrize("kind", ["uint8", "text"])
def test_other_rows_are_marked_and_come_back(kind):
    x = np.arange(300, dtype=np.int64).reshape(100, 3)
    x = x.astype(np.uint8) if kind == "uint8" else np.array([f"façade {i}" for i in range(100)], object)

    async def handle(query):
        return Answer(np.zeros(100, np.int64), np.eye(5, dtype=np.float32)[np.zeros(100, int)])

    async def step(store):
        defense = dawn(store, 0.3)
        await defense.start()
        return await defense(Query("a", x, 0.0), handle)

    answer, (_, opening) = run("sqlite://", step, opened())
    _, marks = opening.verified()
    rows = np.flatnonzero(answer.labels)
    assert len(marks) == len(rows) > 10
    for mark, i in zip(marks, rows, strict=True):
        np.testing.assert_array_equal(mark.x, x[i])
        assert (mark.victim_label, mark.told_label) == (0, answer.labels[i])


def test_the_register_holds_what_was_told_once_for_each_account(store_url):
    first, _, _, _ = run(store_url, asking(X[:300]), asking(X, at=8.0), asking(X[:50], "b"), asking(X))
    (commitment, opening), (_, other) = run(store_url, opened(), opened("b"))
    common, marks = opening.verified()
    said = PROBS.argmax(axis=1)
    rows = [i for i in range(400) if expected(X[i], said[i], 5, 0.2) is not None]
    assert [mark.row for mark in marks] == [X[i].tobytes() for i in rows]
    assert [mark.victim_label for mark in marks] == said[rows].tolist()
    assert {mark.at for mark in marks[: (first.labels != said[:300]).sum()]} == {7.0} and marks[-1].at == 8.0
    assert len(other.verified()[1]) == sum(i < 50 for i in rows)
    assert commitment.marks == len(rows) + sum(i < 50 for i in rows)
    assert (common.rate, common.classes, common.victim) == (0.2, 5, "ab")
    assert common.key == hashlib.sha256(b"dawn key\n" + SECRET).hexdigest()
    assert opening.root == other.root == commitment.root


def test_what_is_damaged_while_serving_is_refused(tmp_path):
    async def step(store):
        defense = dawn(store)
        await defense.start()
        ask = compose([defense], victim(X, PROBS))
        await ask(Query("a", X[:200], 0.0))
        with sqlite3.connect(tmp_path / "store.sqlite") as db:
            db.execute("DELETE FROM entries WHERE log = 'marks/m/a' AND position > 3")
        db.close()
        with pytest.raises(Refused, match="register of this model") as refused:
            await ask(Query("a", X[200:], 0.0))
        assert refused.value.status == 503
        said = PROBS.argmax(axis=1)
        honest = [i for i in range(200, 400) if expected(X[i], said[i], 5, 0.2) is None]
        await ask(Query("a", X[honest], 0.0))

    run(f"sqlite:///{tmp_path / 'store.sqlite'}", step)


@pytest.mark.parametrize("fails", ["append", "charge", "read", "levels"])
def test_no_mark_is_told_unless_it_is_registered(fails):
    async def step(store):
        defense = dawn(store)

        async def away(*arguments, **options):
            raise Refused("the store is away", status=503, retry_after=1)

        working = getattr(store, fails)
        setattr(store, fails, away)
        ask = compose([defense], victim(X, PROBS))
        with pytest.raises(Refused, match="away"):
            await ask(Query("a", X, 0.0))
        setattr(store, fails, working)
        await defense.start()
        answer = await ask(Query("a", X, 0.0))
        _, opening = await opened()(store)
        assert len(opening.verified()[1]) == (answer.labels != PROBS.argmax(axis=1)).sum()
        level = (await store.levels("marks/m/a"))["length"]
        assert level.as_of == len(opening.entries)

    run("sqlite://", step)


def test_workers_and_tasks_share_an_account(store_url):
    async def main():
        stores = [open_store(store_url) for _ in range(3)]
        layers = [dawn(store) for store in stores]
        for layer in layers:
            await layer.start()
        asks = [compose([layer], victim(X, PROBS)) for layer in layers]
        queries = [
            asks[i % 3](Query("a" if i % 2 else "b", X[5 * i % 380 : 5 * i % 380 + 20], 0.0)) for i in range(150)
        ]
        answers = await asyncio.gather(*queries)
        _, first = await opened("a")(stores[0])
        _, second = await opened("b")(stores[1])
        for store in stores:
            await store.close()
        return answers, first, second

    answers, *openings = asyncio.run(main())
    told = [set(), set()]
    said = PROBS.argmax(axis=1)
    for i, answer in enumerate(answers):
        at = 5 * i % 380
        told[1 - i % 2] |= {at + int(j) for j in np.flatnonzero(answer.labels != said[at : at + 20])}
    for marks, rows in zip((opening.verified()[1] for opening in openings), told, strict=True):
        registered = [mark.row for mark in marks]
        assert len(registered) == len(set(registered))
        assert set(registered) == {X[i].tobytes() for i in rows}


def test_another_model_has_other_marks_under_its_own_key():
    async def step(store):
        return [
            (
                await dawn(store, card=Card(model, (4,), 5), secret=key, model=model)(
                    Query("a", X, 0.0), victim(X, PROBS)
                )
            ).labels
            for model, key in (("m", SECRET), ("n", bytes(32)))
        ]

    ((one, other),) = run("sqlite://", step)
    said = PROBS.argmax(axis=1)
    both = ((one != said) & (other != said)).sum()
    assert stats.binomtest(int(both), len(X), 0.04).pvalue > 1e-3


OUTSIDE = {
    "label_only": (LabelOnly(), "keeps"),
    "top_k": (TopK(1), "keeps"),
    "rounding": (Rounding(0), "keeps"),
    "temperature": (Temperature(9.0), "keeps"),
    "little noise": (GaussianNoise(0.02), "warns"),
    "much noise": (GaussianNoise(2.0), "erases"),
    "laplace": (LaplaceNoise(0.02), "warns"),
    "much laplace": (LaplaceNoise(1.0), "erases"),
    "sigmoid": (ReverseSigmoid(0.1, 0.2), "keeps"),
    "much sigmoid": (ReverseSigmoid(1.9, 9.0), "erases"),
    "flips": (LabelFlips(0.05), "warns"),
    "many flips": (LabelFlips(0.2), "erases"),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_stands_outside_keeps_the_mark_or_is_found_at_start(name, caplog):
    defense, verdict = OUTSIDE[name]
    layer = defense.bind(site(secret=b"n"))
    assert disclosed([defense, Dawn(0.2)], CARD)

    async def step(store):
        await check_survival("m", [layer], 5)
        marking = dawn(store)
        bare = await compose([marking], victim(X, PROBS))(Query("a", X, 0.0))
        return bare, await compose([layer, marking], victim(X, PROBS))(Query("a", X, 0.0))

    if verdict == "erases":
        with pytest.raises(BadInput, match="of the marks, even where the victim is certain"):
            run("sqlite://", step)
        return
    ((bare, blurred),) = run("sqlite://", step)
    changed = (bare.labels != blurred.labels).mean()
    assert ("outside dawn changes" in caplog.text) == (verdict == "warns") == (changed > 0)
    assert changed < 0.15


@dataclass(frozen=True)
class Unlisted:
    """A defence that nobody has listed, and that changes labels."""

    stage = Stage.NOISE


@pytest.mark.parametrize(
    ("defense", "found"),
    [
        (LabelOnly(), "must stand inside label_only"),
        (TopK(2), "must stand inside top_k"),
        (Rounding(2), "must stand inside rounding"),
    ],
    ids=str,
)
def test_it_stands_inside_what_withholds(defense, found):
    with pytest.raises(BadInput, match=found) as refused:
        disclosed([Dawn(0.2), defense], CARD)
    assert not isinstance(refused.value, Redundant)


@pytest.mark.parametrize(
    "inside",
    [GaussianNoise(0.01), Temperature(2.0), LabelFlips(0.1), Dawn(0.2), TopK(2), Quota(1), Unlisted()],
    ids=str,
)
def test_nothing_that_changes_an_answer_stands_inside(inside):
    with pytest.raises(BadInput, match="dawn: it stands inside it; marks are counted against the victim's own"):
        check_order([("dawn", Dawn(0.2)), ("it", inside)])
    check_order([("it", inside), ("dawn", Dawn(0.2))] if not isinstance(inside, Dawn) else [("dawn", inside)])
    check_order([("dawn", Dawn(0.2)), ("prada", Monitored(Prada(0.9), "prada"))])


def test_a_deceived_account_is_not_marked():
    async def step(store):
        reaction = Reaction(5, SECRET, compose([dawn(store)], victim(X, PROBS)), victim(X, PROBS))
        deceived = [StandingAlarm("bad", "m", "prada", 0.0, 1, 0.5, "deceive")]
        for account, alarms in (("bad", deceived), ("good", [])):
            await reaction.around(alarms)(Query(account, X, 0.0))
        return [len((await store.read(log_of("m", account))).entries) for account in ("bad", "good")]

    ((bad, good),) = run("sqlite://", step)
    assert bad == 0 < good


def test_what_noise_loses_is_measured():
    def share(defense, confidence, classes=10):
        return asyncio.run(lost([defense.bind(site(secret=b"n"))], classes, confidence))

    sigma = 0.3
    flips = stats.norm.sf(1 / (sigma * np.sqrt(2)))  # one other class overtakes a certain label
    assert 3 * flips < share(GaussianNoise(sigma), 1.0) < 10 * flips
    assert share(LabelFlips(0.2), 1.0) == pytest.approx(0.2, abs=0.04)
    assert share(GaussianNoise(0.01), 0.5) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("rate", [0, -0.1, 0.6, float("nan")])
def test_rates_without_sense_are_refused(rate):
    with pytest.raises(BadInput, match="dawn: rate must lie between"):
        Dawn(rate)
