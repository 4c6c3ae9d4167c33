"""Prompts, completions, and the oracle that meters a language model by the token."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from wire.errors import BadInput, BudgetSpent, Malformed, Refused, Unreachable, WireError

Prompt = str | Sequence[int]
"""A prompt, as text or as tokens."""


@dataclass(frozen=True)
class Decoding:
    """How prompts are continued, in OpenAI's words.

    Attributes:
        max_tokens: Most tokens to add.
        temperature: Divides the logits; 0 takes the likeliest token.
        top_p: The least set of likeliest tokens with this probability is drawn from.
        n: Completions of each prompt.
        seed: Seed of the draws; None leaves them to the server.
        stop: Texts that end a completion.
        logprobs: Of how many likeliest tokens the log-probability is asked; None asks for none at all.
        echo: Whether the prompt's own tokens are told before the new ones.
        logit_bias: What is added to the logits of tokens.
    """

    max_tokens: int = 16
    temperature: float = 1.0
    top_p: float = 1.0
    n: int = 1
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    echo: bool = False
    logit_bias: Mapping[int, float] = field(default_factory=dict)


class Completion(NamedTuple):
    """A completion.

    Attributes:
        text: Its text; with ``echo``, after that of the prompt.
        tokens: The names of its tokens; none unless log-probabilities are told.
        logprobs: The log-probability of each token, in nats; None where a token has none.
        top: For each token, the likeliest tokens with theirs.
        finish: Why it ended: ``stop`` or ``length``.
    """

    text: str
    tokens: tuple[str, ...] = ()
    logprobs: tuple[float | None, ...] = ()
    top: tuple[Mapping[str, float], ...] = ()
    finish: str | None = None


class TokenUsage(NamedTuple):
    """Tokens.

    Attributes:
        prompt: Those of prompts.
        completion: Those that were told.
    """

    prompt: int = 0
    completion: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.prompt + self.completion


class Completed(NamedTuple):
    """The answer to one request.

    Attributes:
        completions: ``n`` of each prompt, in order.
        usage: What is billed.
    """

    completions: list[list[Completion]]
    usage: TokenUsage


Completing = Callable[[tuple[Sequence[Prompt], Decoding]], Completed]
"""Sends the prompts of one request to a language model, and returns the answer."""


@dataclass(frozen=True, slots=True)
class TokenPrices:
    """The prices that an account pays, as integers in micro-cents (10^-8 of the currency's unit)."""

    per_prompt_token: int = 0
    per_completion_token: int = 0
    per_request: int = 0

    def of(self, usage: TokenUsage, requests: int) -> int:
        """Returns the price of so many tokens in so many requests."""
        tokens = self.per_prompt_token * usage.prompt + self.per_completion_token * usage.completion
        return tokens + self.per_request * requests


class CompletionOracle:
    """The only way to query a language model, so that no token goes unmetered.

    Only this class divides queries into requests and bills them. A refusal in the middle of a long query never
    loses the bill.

    Attributes:
        model: The model's name.
        top: Of how many tokens at most the log-probability is told at each place.
        prices: The prices, if they are known.
        ended: Why the last :meth:`collect` stopped early, or None.
    """

    def __init__(
        self,
        transport: Completing,
        model: str,
        budget: int | None = None,
        *,
        texts: int = 128,
        top: int = 5,
        prices: TokenPrices | None = None,
        most_money: int | None = None,
        on_answer: Callable[[CompletionOracle], None] | None = None,
    ) -> None:
        """Makes an oracle.

        Args:
            transport: Sends a request.
            model: The model's name.
            budget: Most tokens to spend, of prompts and completions together; None for no limit of one's own.
            texts: Most completions in one request.
            top: As in :class:`CompletionOracle`.
            prices: Likewise.
            most_money: Most micro-cents to spend; None for no limit of one's own.
            on_answer: Called with the oracle after every answered request, for a progress bar for example.

        Raises:
            BadInput: There is a limit of money, but no prices.
        """
        if most_money is not None and prices is None:
            raise BadInput("the server names no prices, so a budget of money cannot be kept; give one of tokens")
        self.model, self.top, self.prices = model, top, prices
        self.ended: WireError | None = None
        self._transport, self._texts = transport, texts
        self._budget, self._most_money = budget, most_money
        self._halted: str | None = None
        self._on_answer = on_answer
        self._spent, self._requests, self._completions = TokenUsage(), 0, 0

    @property
    def spent(self) -> TokenUsage:
        """Tokens answered so far."""
        return self._spent

    @property
    def requests(self) -> int:
        """Requests answered so far."""
        return self._requests

    @property
    def completions(self) -> int:
        """Completions told so far; a request may have many."""
        return self._completions

    @property
    def left(self) -> int | None:
        """Tokens that the budget still covers; None if there is no budget."""
        if self._halted is not None:
            return 0
        return None if self._budget is None else self._budget - self.spent.total

    @property
    def money(self) -> int | None:
        """Micro-cents spent so far; None if the prices are unknown."""
        return None if self.prices is None else self.prices.of(self.spent, self.requests)

    @property
    def halted(self) -> bool:
        """Whether :meth:`halt` ended the budget."""
        return self._halted is not None

    def halt(self, why: str = "interrupted") -> None:
        """Ends the budget: every later query raises :class:`~wire.BudgetSpent`."""
        self._halted = why

    def complete(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[list[Completion]]:
        """Asks for completions of all prompts.

        Returns:
            ``n`` completions of each prompt.

        Raises:
            BudgetSpent: The budget may not cover the next request; what was answered before stays billed.
            Refused: The server refused; likewise.
            Unreachable: The server did not answer.
            Malformed: The reply is not a valid answer.
        """
        told = self.collect(prompts, decoding)
        if self.ended is not None:
            raise self.ended
        return told

    def collect(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[list[Completion]]:
        """Asks for completions until the budget ends or the server stops answering.

        Returns:
            The completions of the first ``m <= len(prompts)`` prompts; ``ended`` says why there are no more.
        """
        told: list[list[Completion]] = []
        self.ended = None
        texts = self._texts
        while len(told) < len(prompts):
            part = prompts[len(told) : len(told) + max(1, texts // decoding.n)]
            while (spent := self._too_many(most_usage(part, decoding))) is not None:
                if len(part) == 1:
                    self.ended = spent
                    return told
                part = part[: len(part) // 2]
            try:
                completed = self._transport((part, decoding))
            except Refused as refused:
                # Too much for one request, or for what is left of a quota: ask for less.
                if len(part) > 1 and (refused.status == 413 or refused.left):
                    texts = max(1, len(part) // 2) * decoding.n
                    if refused.status == 413:
                        self._texts = texts
                    continue
                self.ended = refused
                return told
            except (Unreachable, Malformed) as failed:
                self.ended = failed
                return told
            told += completed.completions
            usage = completed.usage
            self._spent = TokenUsage(self._spent.prompt + usage.prompt, self._spent.completion + usage.completion)
            self._requests += 1
            self._completions += len(part) * decoding.n
            if self._on_answer is not None:
                self._on_answer(self)
        return told

    def _too_many(self, costs: TokenUsage) -> BudgetSpent | None:
        """Returns why the budget does not cover a request that may cost so much; None if it does."""
        if self._halted is not None:
            return BudgetSpent(self._halted)
        if self.left is not None and costs.total > self.left:
            known = f"{self.left} left of a budget of {self._budget}"
            return BudgetSpent(f"the next prompt may cost {costs.total} tokens with {known}")
        if self._most_money is None or self.prices is None or self.money is None:
            return None
        money, left = self.prices.of(costs, 1), self._most_money - self.money
        if money <= left:
            return None
        known = f"{left} left of a budget of {self._most_money}"
        return BudgetSpent(f"the next prompt may cost {money} micro-cents with {known}")


def most_usage(prompts: Sequence[Prompt], decoding: Decoding) -> TokenUsage:
    """Returns how many tokens a request can cost at most; a byte of a text is at most a token."""
    asked = sum(len(prompt.encode()) if isinstance(prompt, str) else len(prompt) for prompt in prompts)
    return TokenUsage(asked, len(prompts) * decoding.n * decoding.max_tokens)
