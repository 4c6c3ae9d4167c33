import pytest

from wire import BudgetSpent, Malformed, Refused, Unreachable
from wire.completions import Completed, Completion, CompletionOracle, Decoding, TokenPrices, TokenUsage


class Victim:
    """Tells a token for each completion; takes so many completions in a request, and so many tokens in all."""

    def __init__(self, most=128, quota=10**6, error=None):
        self.most, self.quota, self.error, self.asked = most, quota, error, []

    def __call__(self, asked):
        prompts, decoding = asked
        if self.error and len(self.asked) == 2:
            raise self.error
        if len(prompts) * decoding.n > self.most:
            raise Refused("too many", status=413)
        usage = TokenUsage(sum(map(len, prompts)), len(prompts) * decoding.n)
        if usage.total > self.quota:
            raise Refused("the quota is spent", status=429, left=self.quota)
        self.quota -= usage.total
        self.asked.append(len(prompts))
        return Completed([[Completion(f"{len(prompt)}")] * decoding.n for prompt in prompts], usage)


ONE = Decoding(max_tokens=1)
PROMPTS = [[1] * n for n in range(1, 11)]  # 55 tokens


def told(completions):
    return [one.text for texts in completions for one in texts]


def test_prompts_go_in_requests_and_come_back_in_order():
    victim = Victim()
    oracle = CompletionOracle(victim, "m", texts=4, prices=TokenPrices(2, 30, 1000))
    assert told(oracle.complete(PROMPTS, ONE)) == [str(n) for n in range(1, 11)]
    assert victim.asked == [4, 4, 2]
    assert (oracle.spent, oracle.requests, oracle.completions) == (TokenUsage(55, 10), 3, 10)
    assert oracle.left is None and oracle.money == 2 * 55 + 30 * 10 + 3 * 1000


def test_completions_of_one_prompt_stay_together_and_count():
    oracle = CompletionOracle(Victim(), "m", texts=4)
    answer = oracle.complete(PROMPTS[:3], Decoding(max_tokens=1, n=2))
    assert [len(each) for each in answer] == [2, 2, 2] and told(answer) == ["1", "1", "2", "2", "3", "3"]
    assert oracle.requests == 2 and oracle.completions == 6


def test_a_budget_is_never_exceeded():
    for budget in range(0, 70, 3):
        victim = Victim()
        oracle = CompletionOracle(victim, "m", budget, texts=4)
        answer = oracle.collect(PROMPTS, ONE)
        assert oracle.spent.total <= budget and oracle.left == budget - oracle.spent.total
        assert told(answer) == [str(n) for n in range(1, len(answer) + 1)]
        if len(answer) < 10:
            assert isinstance(oracle.ended, BudgetSpent)
            assert oracle.left < len(PROMPTS[len(answer)]) + 1  # it did not cover the next one


def test_the_bytes_of_a_text_bound_its_tokens():
    oracle = CompletionOracle(Victim(), "m", budget=5)
    with pytest.raises(BudgetSpent, match="may cost 6 tokens with 5 left of a budget of 5"):
        oracle.complete(["äbcd"], ONE)
    assert oracle.spent.total == 0


def test_a_server_that_takes_less_is_asked_for_less():
    victim = Victim(most=3)
    oracle = CompletionOracle(victim, "m")
    assert len(oracle.complete(PROMPTS, ONE)) == 10
    assert max(victim.asked) <= 3
    oracle.complete(PROMPTS[:3], ONE)  # and remembers it
    assert sum(victim.asked) == 13


def test_a_quota_is_used_up_and_stays_billed():
    oracle = CompletionOracle(Victim(quota=20), "m")
    answer = oracle.collect(PROMPTS, ONE)
    assert told(answer) == ["1", "2", "3", "4", "5"] and oracle.spent == TokenUsage(15, 5)
    assert isinstance(oracle.ended, Refused)
    with pytest.raises(Refused):
        oracle.complete(PROMPTS[-1:], ONE)


@pytest.mark.parametrize("error", [Unreachable("gone"), Malformed("nonsense"), Refused("no", status=400)])
def test_a_failure_keeps_what_was_answered(error):
    oracle = CompletionOracle(Victim(error=error), "m", texts=3)
    assert len(oracle.collect(PROMPTS, ONE)) == 6 and oracle.ended is error
    assert oracle.spent == TokenUsage(21, 6)


def test_an_interrupt_ends_the_budget():
    oracle = CompletionOracle(Victim(), "m", texts=3, on_answer=lambda oracle: oracle.halt("Ctrl-C"))
    assert len(oracle.collect(PROMPTS, ONE)) == 3
    assert isinstance(oracle.ended, BudgetSpent) and str(oracle.ended) == "Ctrl-C"
