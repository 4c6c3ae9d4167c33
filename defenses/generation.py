"""Messages to and from a language model, and the protocol of the defences around it.

It is the same onion as a classifier's, and :func:`~defenses.defense.compose` wraps either. Between the layers go a
:class:`Prompt` and a :class:`Completion`, which is told token by token.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

from defenses.defense import Staged
from defenses.site import Site
from zoo.language.sampling import Change, Sampling, Told

Piece = tuple[int, list[Told]]
"""The index of a text among the prompt's, and its newly generated tokens."""


@dataclass(frozen=True, eq=False)
class Prompt:
    """A request to a language model.

    Attributes:
        account: Name of the account.
        texts: The tokens of each text to continue; several may have the same.
        sampling: How they are continued. Each draws by a seed of its own, made of this one and its index.
        at: Seconds since the epoch.
    """

    account: str
    texts: Sequence[Sequence[int]]
    sampling: Sampling
    at: float

    def sampled(self, **other: Any) -> Prompt:
        """Returns the prompt with other fields of its sampling."""
        return replace(self, sampling=replace(self.sampling, **other))

    def changing(self, change: Change) -> Prompt:
        """Returns the prompt with one more change of the logits, inside those that are there."""
        return self.sampled(changes=(change, *self.sampling.changes))


class Completion(Protocol):
    """The answer to a prompt."""

    async def next(self) -> Piece:
        """Returns the next tokens of a text, or raises why there are none."""
        ...

    def leave(self, number: int) -> None:
        """Ends a text early."""
        ...


@dataclass(frozen=True)
class Retold:
    """A completion in whose answers tokens are changed.

    Attributes:
        completion: The completion.
        change: Changes a token of the answer and its log-probabilities.
    """

    completion: Completion
    change: Callable[[Told], Told]

    async def next(self) -> Piece:
        """Returns the next tokens of a text, changed."""
        number, tokens = await self.completion.next()
        return number, [self.change(one) for one in tokens]

    def leave(self, number: int) -> None:
        """Ends a text early."""
        self.completion.leave(number)


@dataclass(frozen=True)
class Offer:
    """The features of a language model that an account may use; the counterpart of a classifier's card.

    Attributes:
        vocabulary: Number of tokens.
        context: Most tokens of a text, prompt and completion together.
        logprobs: Of how many of the likeliest tokens the log-probability is told; None if none is told at all.
        digits: Number of decimals to which log-probabilities are rounded; None if they are not rounded.
        bias_with_logprobs: Whether a request may have both ``logit_bias`` and log-probabilities.
        echo: Whether prompts are echoed.
        temperature: The least temperature.
        top_p: The least ``top_p``.
        embeddings: Whether texts are embedded.
    """

    __pydantic_config__: ClassVar = {"json_schema_extra": {"examples": [{"vocabulary": 2048, "context": 128}]}}

    vocabulary: int
    context: int
    logprobs: int | None = 20
    digits: int | None = None
    bias_with_logprobs: bool = True
    echo: bool = True
    temperature: float = 0.0
    top_p: float = 0.0
    embeddings: bool = False


@dataclass(frozen=True)
class GenerationSite:
    """A served language model, and the key of one of its layers.

    Attributes:
        model: Its name.
        fingerprint: SHA-256 of its weights, in hexadecimal.
        secret: The layer's own key, 32 bytes; no two layers share one.
        prompts: The model as one of texts, for detectors; None where nothing is watched.
        read: Returns the text of tokens; None likewise.
    """

    model: str
    fingerprint: str
    secret: bytes = field(repr=False)
    prompts: Site | None = None
    read: Callable[[Sequence[int]], str] | None = None


Generate = Callable[[Prompt], Awaitable[Completion]]
"""A language model, or one behind layers."""


class GenerationLayer(Protocol):
    """A bound defence of a language model. Its exceptions reach the client."""

    async def __call__(self, prompt: Prompt, handle: Generate) -> Completion:
        """Answers a prompt; ``handle`` stands for the layers inside."""
        ...


class GenerationDefense(Staged, Protocol):
    """A frozen dataclass of hyper-parameters."""

    def bind(self, site: GenerationSite) -> GenerationLayer:
        """Returns the layer that runs at a site."""
        ...

    def disclose(self, offer: Offer) -> Offer:
        """Returns what is offered through this layer."""
        ...
