"""Defences of a language model's logits: what of them is told, and how exactly.

Source: Carlini, Paleka, Dvijotham, Steinke, Hayase, Cooper, Lee, Jagielski, Nasr, Conmy, Yona, Wallace,
Rolnick, Tramer, "Stealing Part of a Production Language Model", ICML 2024, section 8: a bias or log-
probabilities, not both; noise on logits. The caps and the floor answer the attacks of its sections 5 and 6;
rounding is that of Tramer et al., USENIX Security 2016, section 7.

Here noise depends on a key and on the text so far, so that asking again teaches nothing; the paper leaves open how
it is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from scipy.special import ndtri

from defenses.answers.row_noise import row_noise
from defenses.defense import Stage
from defenses.generation import Completion, Generate, GenerationLayer, GenerationSite, Offer, Prompt, Retold
from wire import Array, BadInput, Refused
from zoo.language.sampling import Told


def _asking(change: Callable[[Prompt], Prompt]) -> GenerationLayer:
    """Returns the layer that changes prompts, or refuses them."""

    async def layer(prompt: Prompt, handle: Generate) -> Completion:
        return await handle(change(prompt))

    return layer


def _expect(right: bool, otherwise: str) -> None:
    if not right:
        raise Refused(otherwise, status=400)


@dataclass(frozen=True)
class TopLogprobs:
    """Refuses requests for the log-probabilities of more of the likeliest tokens.

    The more of them a request tells, the fewer requests recover all logits (Carlini et al. 2024, section 5).

    Attributes:
        most: Of how many tokens they are told at most, beside the token that was drawn.
    """

    most: int

    stage: ClassVar[Stage] = Stage.PRECISION

    def __post_init__(self) -> None:
        if self.most < 0:
            raise BadInput(f"top_logprobs: most must be at least 0, not {self.most}; or use no_logprobs")

    def bind(self, site: GenerationSite) -> GenerationLayer:
        """Returns the layer that refuses."""
        return _asking(self.checked)

    def checked(self, prompt: Prompt) -> Prompt:
        """Returns the prompt, or raises :class:`~wire.Refused` (400)."""
        asked = prompt.sampling.logprobs or 0
        _expect(asked <= self.most, f"log-probabilities of {asked} tokens are asked; here, of at most {self.most}")
        return prompt

    def disclose(self, offer: Offer) -> Offer:
        """Returns what is offered through this layer."""
        told = offer.logprobs
        return offer if told is None else replace(offer, logprobs=min(told, self.most))


@dataclass(frozen=True)
class NoLogprobs:
    """Refuses requests for log-probabilities.

    What is left to an attacker is which token is the likeliest after a bias (Carlini et al. 2024, section 6).
    """

    stage: ClassVar[Stage] = Stage.PRECISION

    def bind(self, site: GenerationSite) -> GenerationLayer:
        """Returns the layer that refuses."""
        return _asking(self.checked)

    def checked(self, prompt: Prompt) -> Prompt:
        """Returns the prompt, or raises :class:`~wire.Refused` (400)."""
        _expect(prompt.sampling.logprobs is None, "log-probabilities are not told here; ask without logprobs")
        return prompt

    def disclose(self, offer: Offer) -> Offer:
        """Returns what is offered through this layer."""
        return replace(offer, logprobs=None)


@dataclass(frozen=True)
class BiasXorLogprobs:
    """Refuses requests with both ``logit_bias`` and log-probabilities (Carlini et al. 2024, section 8)."""

    stage: ClassVar[Stage] = Stage.PRECISION

    def bind(self, site: GenerationSite) -> GenerationLayer:
        """Returns the layer that refuses."""
        return _asking(self.checked)

    def checked(self, prompt: Prompt) -> Prompt:
        """Returns the prompt, or raises :class:`~wire.Refused` (400)."""
        both = prompt.sampling.logit_bias and prompt.sampling.logprobs is not None
        _expect(not both, "logit_bias and logprobs are not offered in one request; ask for one of them")
        return prompt

    def disclose(self, offer: Offer) -> Offer:
        """Returns what is offered through this layer."""
        return replace(offer, bias_with_logprobs=False)


@dataclass(frozen=True)
class NoEcho:
    """Refuses ``echo``, which tells how likely the model finds a given text.

    Attacks on members rank texts by that (Carlini et al., USENIX Security 2021, section 5).
    """

    stage: ClassVar[Stage] = Stage.PRECISION

    def bind(self, site: GenerationSite) -> GenerationLayer:
        """Returns the layer that refuses."""
        return _asking(self.checked)

    def checked(self, prompt: Prompt) -> Prompt:
        """Returns the prompt, or raises :class:`~wire.Refused` (400)."""
        _expect(not prompt.sampling.echo, "echo is not offered here")
        return prompt

    def disclose(self, offer: Offer) -> Offer:
        """Returns what is offered through this layer."""
        return replace(offer, echo=False)


@dataclass(frozen=True)
class LogprobRounding:
    """Rounds log-probabilities, half to even (Tramer et al. 2016, section 7).

    Attributes:
        digits: Number of decimals.
    """

    digits: int

    stage: ClassVar[Stage] = Stage.PRECISION

    def __post_init__(self) -> None:
        if not 0 <= self.digits <= 12:
            raise BadInput(f"logprob_rounding: digits must lie between 0 and 12, not {self.digits}")

    def bind(self, site: GenerationSite) -> GenerationLayer:
        """Returns the layer that rounds."""

        async def layer(prompt: Prompt, handle: Generate) -> Completion:
            return Retold(await handle(prompt), self.rounded)

        return layer

    def rounded(self, told: Told) -> Told:
        """Returns a token with rounded log-probabilities."""
        if told.logprob is None:
            return told
        top = tuple((token, round(value, self.digits)) for token, value in told.top)
        return told._replace(logprob=round(told.logprob, self.digits), top=top)

    def disclose(self, offer: Offer) -> Offer:
        """Returns what is offered through this layer."""
        digits = self.digits if offer.digits is None else min(self.digits, offer.digits)
        return replace(offer, digits=digits)


@dataclass(frozen=True)
class LogitNoise:
    """Adds normal noise to all logits, before a token is drawn and before a client's bias is added.

    After the same text the noise is the same, whoever asks (Carlini et al. 2024, section 8).

    Attributes:
        sigma: Standard deviation of the noise, in nats.
    """

    sigma: float

    stage: ClassVar[Stage] = Stage.NOISE

    def __post_init__(self) -> None:
        if not 0 < self.sigma < math.inf:
            raise BadInput(f"logit_noise: sigma must be positive and finite, not {self.sigma}")

    def bind(self, site: GenerationSite) -> GenerationLayer:
        """Returns the layer that adds noise drawn with the site's key."""

        def noisy(ids: Sequence[int], logits: Array) -> Array:
            return logits + self.noise(site.secret, ids, len(logits))

        return _asking(lambda prompt: prompt.changing(noisy))

    def noise(self, secret: bytes, ids: Sequence[int], v: int) -> Array:
        """Returns the noise of v logits after a text of tokens: ``(v,)``."""
        text = np.array([" ".join(map(str, ids))], object)
        noise: Array = self.sigma * ndtri(row_noise(secret, text, v)[0])
        return noise

    def disclose(self, offer: Offer) -> Offer:
        """Returns what is offered; noise is not disclosed."""
        return offer


@dataclass(frozen=True)
class TemperatureFloor:
    """Raises the temperature and ``top_p`` of draws that would be nearly certain.

    So which token is the likeliest has to be found from many draws (Carlini et al. 2024, section 6).

    Attributes:
        temperature: The least temperature.
        top_p: The least ``top_p``; a small one makes draws certain at any temperature.
    """

    temperature: float
    top_p: float = 0.9

    stage: ClassVar[Stage] = Stage.NOISE

    def __post_init__(self) -> None:
        if not (0 < self.temperature <= 2 and 0 < self.top_p <= 1):
            raise BadInput(
                "temperature_floor: temperature must lie between 0 and 2 and top_p between 0 and 1, not "
                f"{self.temperature} and {self.top_p}"
            )

    def bind(self, site: GenerationSite) -> GenerationLayer:
        """Returns the layer that raises them."""
        return _asking(self.raised)

    def raised(self, prompt: Prompt) -> Prompt:
        """Returns the prompt with both raised to their floors."""
        sampling = prompt.sampling
        return prompt.sampled(
            temperature=max(sampling.temperature, self.temperature), top_p=max(sampling.top_p, self.top_p)
        )

    def disclose(self, offer: Offer) -> Offer:
        """Returns what is offered through this layer."""
        temperature, top_p = max(offer.temperature, self.temperature), max(offer.top_p, self.top_p)
        return replace(offer, temperature=temperature, top_p=top_p)
