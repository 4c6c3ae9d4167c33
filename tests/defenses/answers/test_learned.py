"""The answer defences that come with a model, or solve for their answer."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linprog
from sites import ask as ask_stack
from sites import bound, site

from defenses import Mad, Misinformation, ModelguardS, ModelguardW
from defenses.training.misinforming import misinforming
from wire import Answer, BadInput, Card, Query
from zoo.data.pool import Pool
from zoo.families.mlp import Mlp
from zoo.training import Training

RNG = np.random.default_rng(0)
Y = RNG.dirichlet(np.full(5, 0.4), 60).astype(np.float32)
P = RNG.dirichlet(np.ones(5), 60).astype(np.float32)
X = RNG.normal(size=(60, 3)).astype(np.float32)


class Beside:
    async def load(self, folder):
        async def passes(x):
            return P[: len(x)]

        return passes


def ask(defense):
    async def victim(query):
        return Answer(Y.argmax(axis=1), Y)

    layer = defense.bind(site(Card("m", (3,), 5), companions=Beside()))
    return asyncio.run(layer(Query("a", X, 0.0), victim))


def l1(told):
    return np.abs(told.probs - Y).sum(axis=1)


def test_misinformation_replaces_answers_of_which_the_victim_is_unsure():
    told = ask(Misinformation(Path("wrong"), 0.6))
    sure = Y.max(axis=1) > 0.61
    unsure = Y.max(axis=1) < 0.59
    assert sure.sum() > 10 and unsure.sum() > 10
    np.testing.assert_allclose(told.probs[sure], Y[sure], atol=1e-4)
    np.testing.assert_allclose(told.probs[unsure], P[unsure], atol=1e-4)
    np.testing.assert_array_equal(told.labels, told.probs.argmax(axis=1))
    half = Misinformation(Path("w"), 0.5, 10.0).mixed(np.array([[0.5, 0.5]]), np.array([[0.0, 1.0]]))
    np.testing.assert_allclose(half.probs, [[0.25, 0.75]])


def test_a_model_of_other_classes_is_refused_at_start():
    layer = Misinformation(Path("wrong"), 0.6).bind(site(Card("m", (3,), 4), companions=Beside()))
    with pytest.raises(BadInput, match="has 5 classes, but m has 4"):
        asyncio.run(layer.start())


def test_the_model_that_misinforms_avoids_the_true_class():
    x = RNG.normal(size=(600, 4)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64) + 2 * (x[:, 1] > 0)
    pool = Pool(x, y, ("a", "b", "c", "d"))
    wrong = misinforming(Mlp(hidden=(32,)), pool, Training(epochs=30), seed=0)
    assert (wrong.predict(x).argmax(axis=1) == y).mean() < 0.02
    with pytest.raises(BadInput, match="have none"):
        misinforming(Mlp(), Pool(x, None, pool.class_names), Training(1), seed=0)


@pytest.mark.parametrize("epsilon", [0.1, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("keep", [False, True])
def test_mad_turns_the_gradient_within_its_bound(epsilon, keep):
    told = ask(Mad(Path("surrogate"), epsilon, keep))
    assert l1(told).max() <= epsilon + 1e-5
    h = RNG.normal(size=7)

    def direction(answers):  # the gradient of the last layer's weights, written out
        gradient = (answers - P).astype(np.float64)[:, :, None] * h
        flat = gradient.reshape(len(P), -1)
        return flat / np.linalg.norm(flat, axis=1, keepdims=True)

    turned = ((direction(told.probs) - direction(Y)) ** 2).sum(axis=1)
    towards = RNG.dirichlet(np.ones(5), len(Y))
    if keep:
        assert (told.labels == Y.argmax(axis=1)).all()
        assert (told.probs.max(axis=1) <= told.probs[np.arange(60), told.labels] + 1e-6).all()
    else:
        size = np.abs(towards - Y).sum(axis=1, keepdims=True)
        other = Y + np.minimum(1, epsilon / size) * (towards - Y)
        assert turned.mean() > ((direction(other) - direction(Y)) ** 2).sum(axis=1).mean()
    assert turned.mean() > 0


@pytest.mark.parametrize("epsilon", [0.2, 1.0, 2.0])
def test_modelguard_w_solves_its_linear_program(epsilon):
    told = ask(ModelguardW(epsilon))
    assert l1(told).max() <= epsilon + 1e-5
    np.testing.assert_array_equal(told.labels, Y.argmax(axis=1))
    cost = np.log(np.maximum(Y.astype(np.float64), 1e-7))
    for row in range(0, 60, 4):
        k, label = 5, int(Y[row].argmax())
        # y' = y + up - down; up, down >= 0
        c = np.concatenate([cost[row], -cost[row]])
        same = np.concatenate([np.ones(k), -np.ones(k)])[None]
        upper, limits = [np.ones(2 * k)], [epsilon]
        for other in range(k):
            if other != label:
                change = np.zeros(2 * k)
                change[other], change[k + other], change[label], change[k + label] = 1, -1, -1, 1
                upper.append(change)
                limits.append(Y[row, label] - Y[row, other])
        room = [(0, None)] * k + [(0, float(y)) for y in Y[row]]
        best = linprog(c, np.array(upper), limits, same, [0], room)
        value = float((told.probs[row] * cost[row]).sum())
        assert value == pytest.approx(best.fun + float((Y[row] * cost[row]).sum()), abs=2e-3)


def test_modelguard_s_tells_few_answers_near_the_true_ones():
    guard = ModelguardS(0.8)
    many = RNG.dirichlet(np.full(5, 0.4), 3000).astype(np.float32)
    layers = bound(guard)
    first = asyncio.run(ask_stack(layers, np.zeros((3000, 3)), many))
    assert np.abs(first.probs - many).sum(axis=1).max() <= 0.8 + 1e-6
    np.testing.assert_array_equal(first.labels, many.argmax(axis=1))
    np.testing.assert_array_equal(first.labels, first.probs.argmax(axis=1))
    assert len(np.unique(first.probs, axis=0)) < 300
    again = asyncio.run(ask_stack(layers, np.zeros((3000, 3)), many[::-1]))
    np.testing.assert_array_equal(again.probs[::-1], first.probs)  # whatever was asked in between
    few = asyncio.run(ask_stack(bound(ModelguardS(0.01, most=2)), np.zeros((3000, 3)), many))
    assert len(np.unique(few.probs, axis=0)) <= 10


@pytest.mark.parametrize("make", [lambda e: Mad(Path("s"), e), ModelguardW, ModelguardS])
def test_epsilon_is_a_distance_of_distributions(make):
    for wrong in (0, 2.1, float("nan")):
        with pytest.raises(BadInput, match="epsilon"):
            make(wrong)
