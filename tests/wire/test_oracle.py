import numpy as np
import pytest

from wire import Answer, BudgetSpent, Card, Oracle, Prices, Refused, Unreachable

CARD = Card(model="m", input_shape=(2,), classes=3, max_rows=4)


class Victim:
    """Labels a row by its first value; refuses after a number of rows."""

    def __init__(self, quota=None, error=None):
        self.quota, self.error, self.asked = quota, error, []

    def __call__(self, x):
        left = None if self.quota is None else self.quota - sum(self.asked)
        if left is not None and len(x) > left:
            raise self.error or Refused(f"asked for {len(x)} rows with {left} left", left=left)
        self.asked.append(len(x))
        return Answer(x[:, 0].astype(np.int64), np.tile(x[:, :1], (1, 3)))


def rows(n):
    return np.arange(2 * n, dtype=np.float32).reshape(n, 2)


def test_long_queries_go_in_chunks_and_come_back_in_order():
    victim = Victim()
    oracle = Oracle(victim, CARD)
    answer = oracle.query(rows(10))
    assert victim.asked == [4, 4, 2]
    np.testing.assert_array_equal(answer.labels, np.arange(0, 20, 2))
    assert answer.probs.shape == (10, 3)
    assert (oracle.spent, oracle.requests, oracle.left) == (10, 3, None)


def test_a_budget_that_does_not_cover_a_query_sends_nothing():
    victim = Victim()
    oracle = Oracle(victim, CARD, budget=5)
    with pytest.raises(BudgetSpent, match="asked for 6 rows with 5 left"):
        oracle.query(rows(6))
    assert victim.asked == [] and oracle.spent == 0
    assert len(oracle.query(rows(5))) == 5
    assert oracle.left == 0


def test_collect_spends_what_is_left_and_says_why_it_stopped():
    oracle = Oracle(Victim(), CARD, budget=5)
    assert len(oracle.collect(rows(9))) == 5
    assert isinstance(oracle.ended, BudgetSpent)
    assert len(oracle.collect(rows(9))) == 0
    assert oracle.spent == 5


def test_a_refusal_in_the_middle_keeps_the_bill_and_takes_the_last_rows():
    victim = Victim(quota=7)
    oracle = Oracle(victim, CARD, prices=Prices(per_row=3, per_request=100))
    with pytest.raises(Refused, match="0 left"):
        oracle.query(rows(20))
    assert victim.asked == [4, 3]
    assert (oracle.spent, oracle.requests, oracle.money) == (7, 2, 3 * 7 + 2 * 100)


def test_no_answer_ends_a_collection_with_what_there_is():
    oracle = Oracle(Victim(quota=4, error=Unreachable("gone")), CARD)
    assert len(oracle.collect(rows(8))) == 4
    assert isinstance(oracle.ended, Unreachable)


def test_halting_ends_the_budget_between_two_chunks():
    oracle = Oracle(Victim(), CARD, on_answer=lambda oracle: oracle.halt("interrupted"))
    assert len(oracle.collect(rows(12))) == 4
    assert str(oracle.ended) == "interrupted" and oracle.left == 0
    with pytest.raises(BudgetSpent, match="interrupted"):
        oracle.query(rows(1))


def test_where_some_answers_tell_labels_alone_their_probabilities_are_withheld():
    joined = Answer.join(
        [Answer(np.zeros(2, np.int64)), Answer(np.ones(1, np.int64), np.ones((1, 3), np.float32))]
    )
    np.testing.assert_array_equal(joined.labels, [0, 0, 1])
    np.testing.assert_array_equal(joined.probs, [[np.nan] * 3, [np.nan] * 3, [1, 1, 1]])
    assert len(Answer.join([])) == 0
