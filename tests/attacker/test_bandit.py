import numpy as np
import pytest

from attacker.extraction.bandit import ClassPolicy, GradientBandit
from zoo.data.pool import Pool


def test_a_draw_that_was_worth_more_than_the_baseline_is_preferred_by_the_papers_formula():
    bandit = GradientBandit([("a",), ("b",)])
    bandit.update(0, 0.5)  # alpha = 1: H_0 = .5 (1 - .5), H_1 = -.5 * .5
    assert bandit.preferences == pytest.approx([0.25, -0.25])
    pi = 1 / (1 + np.exp(-0.5))
    assert bandit.policy() == pytest.approx([pi, 1 - pi])
    bandit.update(0, -1)  # alpha = 1/2
    assert bandit.preferences == pytest.approx([0.25 - 0.5 * (1 - pi), -0.25 + 0.5 * (1 - pi)])
    bandit.update(1, 1)  # of another action: its own alpha is 1
    assert bandit.draws.tolist() == [2, 1]


def test_every_node_of_a_tree_has_a_policy_of_its_own():
    bandit = GradientBandit([("animal", "dog"), ("animal", "cat"), ("car",)])
    bandit.update(1, 1)
    assert bandit.preferences == pytest.approx([0.5, -0.5])  # animal, car
    animals = bandit.inner[0]
    assert animals.preferences == pytest.approx([-0.5, 0.5])  # dog, cat
    bandit.update(2, 1)
    assert animals.draws.tolist() == [0, 1] and bandit.draws.tolist() == [1, 1]


@pytest.mark.parametrize(
    "paths", [[("a",), ("b",), ("c",)], [("x", "a"), ("x", "b"), ("c",)]], ids=["flat", "tree"]
)
def test_closed_actions_are_drawn_no_more_and_can_still_be_learnt_from(paths):
    bandit, rng = GradientBandit(paths), np.random.default_rng(0)
    assert {bandit.draw(rng) for _ in range(100)} == {0, 1, 2}
    bandit.close(0)
    assert {bandit.draw(rng) for _ in range(100)} == {1, 2}
    bandit.close(1)
    bandit.update(1, 1)
    assert {bandit.draw(rng) for _ in range(20)} == {2}
    bandit.close(2)
    assert not bandit.open.any()


def test_class_names_make_a_tree_and_every_row_is_drawn_once():
    names = ("odd/1", "even/2", "odd/3", "zero", "nothing")
    y = np.array([0, 1, 2, 3, 0])
    policy = ClassPolicy(Pool(np.zeros((5, 1), np.float32), y, names), np.random.default_rng(0))
    assert len(policy.bandit.open) == 3  # odd, even, zero
    assert [inner is not None for inner in policy.bandit.inner] == [True, False, False]
    drawn = [policy.draw(2) for _ in range(4)]
    assert [len(rows) for _, rows in drawn] == [2, 2, 1, 0] and len(policy) == 0
    rows = [row for _, rows in drawn for row in rows]
    assert sorted(rows) == [0, 1, 2, 3, 4]
    assert [z for zs, _ in drawn for z in zs] == y[rows].tolist()


def test_a_folder_of_classes_may_be_called_as_a_class_is_numbered():
    pool = Pool(np.zeros((2, 1), np.float32), np.array([0, 1]), ("zero", "0/small"))
    policy = ClassPolicy(pool, np.random.default_rng(0))
    z, rows = policy.draw(2)
    assert sorted(z) == sorted(rows) == [0, 1]
