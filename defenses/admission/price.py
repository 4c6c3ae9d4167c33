"""An account's ledger: its rows, tokens and requests, and the amount that it owes in micro-cents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

ENTRIES = ("rows", "requests", "micro_cents")
TOKENS = ("prompt_tokens", "completion_tokens")
"""Entries of language models alone."""


class Usage(NamedTuple):
    """Tokens of a request to a language model.

    Attributes:
        prompt: Those of its prompts.
        completion: Those that were told.
    """

    prompt: int = 0
    completion: int = 0


@dataclass(frozen=True)
class Price:
    """Counts rows, tokens, requests and money, in micro-cents (10^-8 of the currency's unit), as integers.

    Attributes:
        per_row: Micro-cents per row.
        per_request: Micro-cents per request.
        per_prompt_token: Micro-cents per token of a prompt.
        per_completion_token: Micro-cents per token that is told.
    """

    per_row: int = 0
    per_request: int = 0
    per_prompt_token: int = 0
    per_completion_token: int = 0

    def amounts(self, rows: int) -> tuple[int, int, int]:
        """Returns how much a request of ``rows`` rows adds to each of :data:`ENTRIES`."""
        return rows, 1, self.per_row * rows + self.per_request

    def of(self, usage: Usage) -> dict[str, int]:
        """Returns how much a request with so many tokens adds to entries of the ledger."""
        money = self.per_prompt_token * usage.prompt + self.per_completion_token * usage.completion
        told = dict(zip(TOKENS, usage, strict=True))
        return {**told, "requests": 1, "micro_cents": money + self.per_request}
