"""Every ordered pair of the answer's knobs: refused with its reason, or what must hold of it."""

import asyncio

import numpy as np
import pytest
import sites
from sklearn.datasets import load_digits

from defenses import (
    DEFENSES,
    GaussianNoise,
    LabelFlips,
    LabelOnly,
    LaplaceNoise,
    ModelguardW,
    Redundant,
    ReverseSigmoid,
    Rounding,
    Temperature,
    TopK,
    WithholdLeaves,
    disclosed,
)
from wire import BadInput, Card
from zoo.families.mlp import Mlp
from zoo.network import Network
from zoo.training import Training

OUTER, INNER = (
    {
        "label_only": LabelOnly(),
        "top_k": TopK(k),
        "rounding": Rounding(digits),
        "temperature": Temperature(2.0),
        "gaussian_noise": GaussianNoise(0.05),
        "laplace_noise": LaplaceNoise(0.05),
        "reverse_sigmoid": ReverseSigmoid(0.3, 0.4),
        "label_flips": LabelFlips(0.3),
        "modelguard_w": ModelguardW(0.4),
        "withhold_leaves": WithholdLeaves(),
    }
    for k, digits in ((3, 2), (4, 3))
)

REASONS = {
    "none": "layers inside disclose labels only",  # nothing is left to change
    "flip": "must stand inside label_only",  # there are no probabilities to exchange
    "hide": "label_only: withholds the probabilities, so (top_k|rounding|temperature) inside it has no effect",
    "once": "keep only the smaller",
    "full": "needs all probabilities, so it must stand inside top_k",
    "undo": "would undo the rounding inside it",
}

# A row stands outside, a column inside; the columns are in the order of the rows.
TABLE = """
label_only      none hide hide hide ok   ok   ok   ok   ok ok
top_k           none once ok   ok   ok   ok   ok   ok   ok ok
rounding        none ok   once ok   ok   ok   ok   ok   ok ok
temperature     none full undo ok   ok   ok   ok   ok   ok ok
gaussian_noise  none full undo ok   ok   ok   ok   ok   ok ok
laplace_noise   none full undo ok   ok   ok   ok   ok   ok ok
reverse_sigmoid none full undo ok   ok   ok   ok   ok   ok ok
label_flips     flip ok   ok   ok   ok   ok   ok   ok   ok ok
modelguard_w    none full undo ok   ok   ok   ok   ok   ok ok
withhold_leaves ok   ok   ok   ok   ok   ok   ok   ok   ok   ok
"""
LINES = [line.split() for line in TABLE.strip().splitlines()]
HEAD = [line[0] for line in LINES]
VERDICTS = {
    (outer, inner): verdict for outer, *verdicts in LINES for inner, verdict in zip(HEAD, verdicts, strict=True)
}
POINTLESS = [pair for pair, verdict in VERDICTS.items() if verdict in ("hide", "once")]  # harmless, if let pass
ALLOWED = [pair for pair, verdict in VERDICTS.items() if verdict == "ok"]
LEAVE_LABELS = ("label_only", "top_k", "rounding", "temperature", "modelguard_w", "withhold_leaves")


def ask(defenses, x, probs):
    return asyncio.run(sites.ask(sites.bound(*defenses), x, probs))


@pytest.fixture(scope="module")
def victims():
    """Rows, and what trained networks and none at all say of them, by the number of classes."""
    digits = load_digits()
    x = (digits.images[:, None] / 16).astype(np.float32)
    rng = np.random.default_rng(0)
    said = {}
    for classes, y in {
        2: digits.target % 2,
        10: digits.target,
        100: digits.target * 10 + rng.integers(0, 10, len(x)),
    }.items():
        names = tuple(map(str, range(classes)))
        network = Network.new(Mlp(hidden=(32,)), x.shape[1:], names, seed=0)
        network.fit(x[:1000], y[:1000], Training(epochs=20, batch=32), seed=0)
        drawn = rng.dirichlet(np.full(classes, 0.3), 40).astype(np.float32)
        drawn /= drawn.sum(axis=1, keepdims=True)
        odd = np.zeros((3, classes), np.float32)
        odd[0, -1] = 1  # certain of the last class
        odd[1, :] = 1 / classes  # of none
        odd[2, -2:] = 0.4995, 0.5005  # equal when rounded
        learnt = network.predict(x[-57:])
        assert (learnt.argmax(axis=1) == y[-57:]).mean() > 1.5 / classes
        said[classes] = x[-100:], np.concatenate([learnt, drawn, odd])
    return said


def test_the_table_is_about_every_knob():
    knobs = [name for name, cls in DEFENSES.items() if cls.__module__.startswith("defenses.answers")]
    for name in ("mad", "memguard", "misinformation", "ood_filter"):  # need a model; stand where noise stands
        knobs.remove(name)
    knobs.remove("b4b")  # changes embeddings
    knobs.remove("modelguard_s")  # tells earlier answers again; it stands where noise stands
    assert sorted(HEAD) == sorted(knobs), "give each layer a row and a column in TABLE"
    assert list(OUTER) == HEAD, "give OUTER and INNER one of each layer, in the order of TABLE"


@pytest.mark.parametrize(("outer", "inner"), VERDICTS, ids="-".join)
def test_a_pair_is_taken_or_refused_with_its_reason(outer, inner):
    verdict, stack = VERDICTS[outer, inner], [OUTER[outer], INNER[inner]]
    card = Card("m", (1, 8, 8), 10)
    if verdict == "ok":
        assert isinstance(disclosed(stack, card), Card)
        return
    with pytest.raises(BadInput, match=REASONS[verdict]) as refused:
        disclosed(stack, card)
    assert str(refused.value).startswith(f"{outer}: ")
    assert isinstance(refused.value, Redundant) == ((outer, inner) in POINTLESS)


@pytest.mark.parametrize("rows", [1, 100])
@pytest.mark.parametrize("classes", [2, 10, 100])
@pytest.mark.parametrize(("outer", "inner"), [*ALLOWED, *POINTLESS, *((name, None) for name in OUTER)])
def test_what_every_allowed_pair_tells(outer, inner, classes, rows, victims):
    x, probs = (part[:rows] for part in victims[classes])
    inside = [] if inner is None else [INNER[inner]]
    before, answer = ask(inside, x, probs), ask([OUTER[outer], *inside], x, probs)
    card = disclosed(inside, Card("m", x.shape[1:], classes))
    try:
        card = OUTER[outer].disclose(card)
    except Redundant as pointless:
        card = pointless.card

    assert answer.labels.dtype == np.int64 and answer.labels.shape == (rows,)
    assert ((answer.labels >= 0) & (answer.labels < classes)).all()
    if outer in LEAVE_LABELS:
        np.testing.assert_array_equal(answer.labels, before.labels)
    assert (answer.probs is not None) == card.tells_probs
    again = ask([OUTER[outer], *inside], x, probs)
    np.testing.assert_array_equal(answer.labels, again.labels)
    np.testing.assert_array_equal(answer.probs, again.probs)
    alone = ask([OUTER[outer], *inside], x[-1:], probs[-1:])
    assert alone.labels == answer.labels[-1:]
    if not card.tells_probs:
        return

    told = answer.probs
    np.testing.assert_allclose(told[-1:], alone.probs, atol=1e-6)
    assert told.dtype == np.float32 and told.shape == (rows, classes)
    assert (np.isnan(told) | ((told >= 0) & (told <= 1))).all()
    of_labels = np.take_along_axis(told, answer.labels[:, None], axis=1)[:, 0]
    np.testing.assert_array_equal(of_labels, np.nanmax(told, axis=1))  # the label is a greatest of what is told
    count = classes if card.top_k is None else min(card.top_k, classes)
    np.testing.assert_array_equal((~np.isnan(told)).sum(axis=1), count)
    slack = 1e-5 if card.digits is None else 1e-5 + count * 0.5 * 10**-card.digits
    total = np.nansum(told, axis=1)
    if count == classes:
        np.testing.assert_allclose(total, 1, rtol=0, atol=slack)
    else:
        assert (total <= 1 + slack).all()
    if card.digits is not None:
        np.testing.assert_array_equal(told, told.round(card.digits))
    kept = ~np.isnan(told)
    if outer == "top_k":  # tells what is inside, and of it the greatest
        np.testing.assert_array_equal(told[kept], before.probs[kept])
        assert (np.nanmin(told, axis=1) >= np.where(kept, 0, np.nan_to_num(before.probs)).max(axis=1)).all()
    if outer == "rounding":
        np.testing.assert_array_equal(np.isnan(told), np.isnan(before.probs))
        np.testing.assert_allclose(told[kept], before.probs[kept], rtol=0, atol=0.5 * 10**-card.digits + 1e-7)
    if outer == "label_flips":  # the same numbers, in two other places at most
        np.testing.assert_array_equal(np.sort(told, axis=1), np.sort(before.probs, axis=1))


def test_what_is_withheld_shows_in_nothing_that_is_told(victims):
    """Two victims that agree on what the outermost layers tell cannot be told apart."""
    x, probs = victims[10]
    others = probs.copy()
    order = (-probs).argsort(axis=1, kind="stable")[:, 3:]
    least = np.take_along_axis(others, order, axis=1)
    np.put_along_axis(others, order, least[:, ::-1], axis=1)
    assert not np.array_equal(probs, others)
    stack = [Rounding(2), TopK(3)]
    distinct = np.diff(np.sort(probs, axis=1))[:, -3:].min(axis=1) > 0  # of equal ones the lower class is told
    ours, theirs = (ask(stack, x, said) for said in (probs, others))
    np.testing.assert_array_equal(ours.probs[distinct], theirs.probs[distinct])
    assert distinct.sum() > 50


@pytest.mark.parametrize("top", [1, 2, 3])
def test_the_label_is_told_among_equals(top):
    probs = np.float32([[0.4995, 0.5005, 0, 0], [0.25, 0.25, 0.25, 0.25], [0, 0.3001, 0.3, 0.3999]])
    answer = ask([TopK(top), Rounding(1)], np.zeros((3, 2), np.float32), probs)
    told = [set(np.flatnonzero(~np.isnan(row))) for row in answer.probs]
    assert told == [
        {1: {1}, 2: {0, 1}, 3: {0, 1, 2}}[top],
        {1: {0}, 2: {0, 1}, 3: {0, 1, 2}}[top],
        {1: {3}, 2: {1, 3}, 3: {1, 2, 3}}[top],
    ]
    assert answer.labels.tolist() == [1, 0, 3]


@pytest.mark.parametrize(("outer", "inner"), [(TopK(5), TopK(2)), (Rounding(3), Rounding(1))], ids=repr)
def test_a_layer_that_tells_more_than_the_one_inside_changes_nothing(outer, inner, victims):
    before, answer = (ask(stack, *victims[10]) for stack in ([inner], [outer, inner]))
    np.testing.assert_array_equal(answer.probs, before.probs)
    card = inner.disclose(Card("m", (4,), 10))
    with pytest.raises(Redundant) as refused:
        outer.disclose(card)
    assert refused.value.card == card


@pytest.mark.parametrize(
    ("stack", "told"),
    [
        ([LabelOnly(), OUTER["gaussian_noise"], Temperature(2.0)], (False, None, None, None, 0.05)),
        (
            [Rounding(2), TopK(3), OUTER["laplace_noise"], ReverseSigmoid(0.1, 0.2)],
            (True, 3, 2, None, 2**0.5 * 0.05),
        ),
        ([TopK(1), Rounding(3), Temperature(2.0), Temperature(3.0)], (True, 1, 3, 6.0, None)),
    ],
)
def test_the_card_says_how_much_is_told(stack, told):
    card = disclosed(stack, Card("m", (4,), 5))
    assert (card.tells_probs, card.top_k, card.digits, card.temperature, card.noise) == told


def test_a_contradiction_is_found_across_what_stands_between():
    card = Card("m", (4,), 5)
    with pytest.raises(BadInput, match=REASONS["hide"]):
        disclosed([LabelOnly(), OUTER["label_flips"], Rounding(2)], card)
    with pytest.raises(BadInput, match=REASONS["undo"]):
        disclosed([OUTER["gaussian_noise"], OUTER["label_flips"], Rounding(2)], card)


@pytest.mark.parametrize("name", [name for name in OUTER if name not in ("label_only", "withhold_leaves")])
def test_a_layer_that_was_not_checked_fails_closed(name):
    with pytest.raises(ValueError, match="labels only"):
        ask([OUTER[name], LabelOnly()], np.zeros((1, 2), np.float32), np.float32([[0.5, 0.5]]))
