"""An HTTP transport that speaks OpenAI's protocol: completions, and chat completions."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx

from wire.completions import (
    Completed,
    Completing,
    Completion,
    CompletionOracle,
    Decoding,
    Prompt,
    TokenPrices,
    TokenUsage,
)
from wire.connection import Connection
from wire.errors import BadInput, Malformed, Refused
from wire.patient import Patient
from wire.tensors import read_json

TOP, TOP_CHAT = 5, 20  # log-probabilities at each place, by the protocol
TEXTS = 128  # completions of a request that servers take


class CompletionEndpoint:
    """One account's connection to one language model behind a URL.

    Calling it sends one request and returns the answer. A request whose reply was lost is sent again under the
    same key, so that a server that knows such keys bills it once.

    Attributes:
        base: The server's URL.
        model: The model's name.
        chat: Whether it asks for chat completions, one prompt in a request, in place of completions.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        key: str | None = None,
        chat: bool = False,
        client: httpx.Client | None = None,
        tries: int = 3,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """Finds the model.

        Args:
            url: The server's URL, with or without ``/v1``.
            model: The model's name; not needed if the server has only one language model.
            key: The account's API key.
            chat: As in :class:`CompletionEndpoint`.
            client: The HTTP client to use; default: a new one.
            tries: Maximum number of times to send a request when the connection fails.
            sleep: Waits for a number of seconds between attempts.

        Raises:
            BadInput: The URL cannot be used, or the server has several language models and none is named.
            Refused: The server refuses the key.
            Unreachable: The server did not answer.
        """
        self._connection = Connection(key=key, client=client, tries=tries, sleep=sleep)
        self.base, self.chat = url.rstrip("/").removesuffix("/v1"), chat
        self.model = model or self._only_model()

    def __call__(self, asked: tuple[Sequence[Prompt], Decoding]) -> Completed:
        """Sends the prompts, and returns ``n`` completions of each.

        Raises:
            BadInput: A chat takes one text, and no echo.
            Refused: The server refused.
            Malformed: The reply is not an answer to these prompts.
            Unreachable: The server did not answer.
        """
        prompts, decoding = asked
        body = _body(decoding)
        if self.chat:
            if len(prompts) != 1 or not isinstance(prompts[0], str) or decoding.echo:
                raise BadInput("a chat takes one prompt in a request, a text, and no echo")
            body["messages"] = [{"role": "user", "content": prompts[0]}]
            if decoding.logprobs is not None:
                body |= {"logprobs": True, "top_logprobs": decoding.logprobs}
        else:
            body["prompt"] = [prompt if isinstance(prompt, str) else list(prompt) for prompt in prompts]
            body |= {} if decoding.logprobs is None else {"logprobs": decoding.logprobs}
            body |= {"echo": True} if decoding.echo else {}
        reply = self._connection.send(
            "POST",
            f"{self.base}/v1/{'chat/' * self.chat}completions",
            json={"model": self.model, **body},
            headers={"Idempotency-Key": uuid.uuid4().hex},
        )
        return self._read(read_json(reply.content), len(prompts), decoding.n)

    def oracle(
        self,
        budget: int | None = None,
        *,
        most_money: int | None = None,
        patience: float = 300.0,
        sleep: Callable[[float], object] = time.sleep,
        recorded: Callable[[Completing], Completing] | None = None,
        on_answer: Callable[[CompletionOracle], None] | None = None,
    ) -> CompletionOracle:
        """Returns an oracle that waits out temporary refusals.

        Args:
            budget: Most tokens to spend.
            most_money: Most micro-cents to spend.
            patience: Longest wait for one request, in seconds.
            sleep: Waits for a number of seconds.
            recorded: Returns a transport that records what one sends and gets.
            on_answer: Called with the oracle after every answered request.

        Raises:
            BadInput: Money is limited, but the server names no prices.
        """
        patient: Completing = Patient(self, patience, sleep)
        return CompletionOracle(
            patient if recorded is None else recorded(patient),
            self.model,
            budget,
            texts=1 if self.chat else TEXTS,
            top=TOP_CHAT if self.chat else TOP,
            prices=self.prices(),
            most_money=most_money,
            on_answer=on_answer,
        )

    def account(self) -> dict[str, Any] | None:
        """Returns the server's record of the account (tokens, money); None if it keeps no accounts."""
        try:
            return read_json(self._connection.send("GET", f"{self.base}/v1/account").content)
        except (Refused, Malformed):
            return None

    def prices(self) -> TokenPrices | None:
        """Returns the prices, in micro-cents; None if the server does not report them."""
        prices = (self.account() or {}).get("prices")
        if not isinstance(prices, dict):
            return None
        per = ("per_prompt_token", "per_completion_token", "per_request")
        return TokenPrices(*(int(prices.get(name, 0)) for name in per))

    def close(self) -> None:
        """Closes the connections."""
        self._connection.close()

    def _only_model(self) -> str:
        listed = read_json(self._connection.send("GET", f"{self.base}/v1/models").content).get("data") or []
        if len(listed) != 1:
            names = ", ".join(str(each["id"]) for each in listed) or "none"
            raise BadInput(f"{self.base} serves the language models {names}: name one with --model")
        return str(listed[0]["id"])

    def _read(self, reply: Mapping[str, Any], prompts: int, n: int) -> Completed:
        try:
            choices = sorted(reply["choices"], key=lambda choice: choice["index"])
            told = [_of_chat(choice) if self.chat else _of_text(choice) for choice in choices]
            usage = TokenUsage(*(int(reply["usage"][f"{kind}_tokens"]) for kind in TokenUsage._fields))
        except (KeyError, TypeError, ValueError) as error:
            raise Malformed(f"the reply is no completion of OpenAI's protocol: {error!r}") from None
        if len(told) != prompts * n:
            raise Malformed(f"asked for {n} completions of {prompts} prompts, but the reply has {len(told)}")
        return Completed([told[at : at + n] for at in range(0, len(told), n)], usage)


def _body(decoding: Decoding) -> dict[str, Any]:
    """Returns what both routes take; what is not said has the protocol's defaults."""
    body: dict[str, Any] = {
        "max_tokens": decoding.max_tokens,
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        "n": decoding.n,
    }
    if decoding.seed is not None:
        body["seed"] = decoding.seed
    if decoding.stop:
        body["stop"] = list(decoding.stop)
    if decoding.logit_bias:
        body["logit_bias"] = {str(token): float(bias) for token, bias in decoding.logit_bias.items()}
    return body


def _of_text(choice: Mapping[str, Any]) -> Completion:
    told = choice.get("logprobs") or {}
    return Completion(
        str(choice["text"]),
        tuple(told.get("tokens") or ()),
        tuple(told.get("token_logprobs") or ()),
        tuple(top or {} for top in told.get("top_logprobs") or ()),
        choice.get("finish_reason"),
    )


def _of_chat(choice: Mapping[str, Any]) -> Completion:
    told = (choice.get("logprobs") or {}).get("content") or []
    return Completion(
        str(choice["message"]["content"]),
        tuple(each["token"] for each in told),
        tuple(each["logprob"] for each in told),
        tuple({top["token"]: top["logprob"] for top in each.get("top_logprobs") or ()} for each in told),
        choice.get("finish_reason"),
    )
