"""The attacker's client of OpenAI's protocol, against the server: what it counts is what the ledger says."""

import httpx
import pytest

from tests.tiny_language import sentences, tiny
from wire import BadInput, BudgetSpent, Refused, Unreachable
from wire.completions import Decoding
from wire.local import local_client
from wire.openai import CompletionEndpoint


def endpoint(api, plan="paying", **more):
    key = api.key(plan)["Authorization"].removeprefix("Bearer ")
    more = {"client": api.client, "sleep": api.clock.sleep, **more}
    return CompletionEndpoint("http://local/v1", key=key, **more)


def oracle(api, budget=None, plan="paying", **more):
    return endpoint(api, plan, **more).oracle(budget, sleep=api.clock.sleep)


def counted(oracle):
    return *oracle.spent, oracle.requests, oracle.money


def test_completions_of_texts_and_tokens_are_counted_as_they_are_billed(api):
    thief = oracle(api)
    ids = tiny().tokens.encode("Tell")
    answer = thief.complete(["The king said", ids], Decoding(4, temperature=0, n=2, logprobs=3))
    assert [len(each) for each in answer] == [2, 2]
    for prompt, twice in zip(("The king said", "Tell"), answer, strict=True):
        assert twice[0] == twice[1]
        text = api.post(prompt=prompt, plan="free", max_tokens=4).json()["choices"][0]["text"]
        assert twice[0].text == text
        assert len(twice[0].top) == len(twice[0].tokens) == len(twice[0].logprobs) <= 4
        for token, value, top in zip(twice[0].tokens, twice[0].logprobs, twice[0].top, strict=True):
            assert top[token] == value and len(top) == 3
    assert counted(thief) == api.billed() and thief.completions == 4


def test_a_chat_tells_twenty_and_takes_one_prompt_a_request(api):
    thief = oracle(api, chat=True)
    assert thief.top == 20
    answer = thief.complete(["The king", "Tell"], Decoding(1, temperature=0, logprobs=20, logit_bias={7: 100}))
    for (one,) in answer:
        assert one.tokens == (tiny().tokens.name(7),) and len(one.top[0]) == 20
    assert counted(thief) == api.billed() and thief.requests == 2
    with pytest.raises(BadInput, match="a chat takes one prompt"):
        endpoint(api, chat=True)(([[3]], Decoding()))


def test_an_echo_tells_the_likelihood_of_a_text(api):
    ((one,),) = oracle(api, plan="free").complete(["The king said"], Decoding(0, logprobs=0, echo=True))
    assert one.text == "The king said" and one.logprobs[0] is None
    assert one.logprobs[1:] == pytest.approx(tiny().log_likelihoods("The king said")[1:-1].tolist(), abs=1e-4)


def test_a_limit_that_refills_is_waited_for_and_a_request_that_is_too_large_divided(api):
    thief, before = oracle(api), api.clock()
    texts = sentences()[:40]
    answer = thief.collect(texts, Decoding(2, temperature=0))  # 200 tokens at once, one a second, 400 a day
    assert 0 < len(answer) < 40 and isinstance(thief.ended, Refused)
    assert 200 < thief.spent.total <= 400 and api.clock() > before + 1
    assert counted(thief) == api.billed()


def test_a_budget_of_tokens_is_kept(api):
    thief = oracle(api, budget=60, plan="free")
    answer = thief.collect(sentences()[:40], Decoding(2, temperature=0))
    assert 0 < len(answer) < 40 and isinstance(thief.ended, BudgetSpent)
    assert thief.spent.total <= 60 and counted(thief)[:3] == api.billed("free")[:3]


def test_a_request_whose_reply_was_lost_is_billed_once(api):
    class Losing(httpx.BaseTransport):
        lost = 0

        def handle_request(self, request):
            reply = api.client._transport.handle_request(request)
            if request.method == "POST" and self.lost < 2:
                self.lost += 1
                raise httpx.ReadError("lost")
            return reply

    thief = oracle(api, client=httpx.Client(transport=Losing()))
    ((one,),) = thief.complete(["The king said"], Decoding(4, temperature=0))
    assert one.text and counted(thief) == api.billed()
    gone = oracle(api, client=httpx.Client(transport=Losing()), tries=1)
    with pytest.raises(Unreachable, match="lost"):
        gone.complete(["The king said"], Decoding(4))
    assert gone.requests == 0


def test_what_the_server_says_against_a_request_is_told(api):
    thief = oracle(api)
    with pytest.raises(Refused, match="no token '300'; the model has tokens 0 to 299") as refused:
        thief.complete(["Go"], Decoding(1, logit_bias={300: 1}))
    assert refused.value.status == 400
    with pytest.raises(Refused, match="no language model 'gpt'"):
        oracle(api, model="gpt").complete(["Go"], Decoding(1))
    assert counted(thief) == (0, 0, 0, 0)


def test_a_server_without_a_language_model_has_none_to_name(local):
    with local_client(local.app) as client, pytest.raises(BadInput, match="serves the language models none"):
        key = local.account("thief")
        CompletionEndpoint("http://local", key=key, client=client)
