"""Requests of OpenAI's completions and chat completions, read and checked."""

from __future__ import annotations

import hashlib
import math
import secrets
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import msgspec

from defenses.admission.price import Usage
from server.deployment.language import SpokenTo
from wire import Malformed, Refused
from zoo.language.generation import Sampling, Text
from zoo.language.tokens import Tokens

MOST_TEXTS = 128  # of one request
MOST_BIASES = 300
MOST_BIAS = 100.0
MOST_STOPS = 4
MOST_STOP = 64  # characters
MOST_LOGPROBS = 5
MOST_TOP_LOGPROBS = 20


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """What a stream says besides."""

    include_usage: bool = False


class Common(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What both kinds of request have."""

    model: str
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    n: int | None = None
    logit_bias: dict[str, float] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    user: str | None = None


class CompletionRequest(Common):
    """A request of ``/v1/completions``."""

    prompt: str | list[str | int | list[int]] = ""
    logprobs: int | None = None
    echo: bool | None = None
    best_of: int | None = None
    suffix: str | None = None


class ContentPart(msgspec.Struct):
    """A part of a message."""

    type: Literal["text"]
    text: str


class Message(msgspec.Struct):
    """A message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[ContentPart]
    name: str | None = None


class ChatRequest(Common):
    """A request of ``/v1/chat/completions``."""

    messages: list[Message]
    logprobs: bool | None = None
    top_logprobs: int | None = None
    max_completion_tokens: int | None = None


Request = CompletionRequest | ChatRequest


@dataclass(frozen=True)
class Spoken:
    """A request that was checked.

    Attributes:
        texts: The texts to continue, those of one prompt side by side.
        reserved: The tokens of the prompts, and those that may be told.
        stops: Texts that end a completion.
        stream: Whether the answer is a stream.
        include_usage: Whether a stream ends with the usage.
        chat: Whether it is a chat.
        key: Names it in the ledger; None without an idempotency key.
    """

    texts: list[Text]
    reserved: Usage
    stops: tuple[str, ...]
    stream: bool
    include_usage: bool
    chat: bool
    key: str | None


def decoded(body: bytes, kind: type[Request]) -> Request:
    """Reads the JSON of a request, or raises :class:`~wire.Malformed`."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"the request is not what is expected: {error}") from None


def checked(request: Request, spoken: SpokenTo, body: bytes, account: str, id_: str | None) -> Spoken:
    """Checks a request against its model.

    Args:
        request: The request.
        spoken: The model, as the account meets it.
        body: The bytes that it was read from.
        account: Name of the account.
        id_: The idempotency key that the client gave; a request with one draws alike whenever it is repeated.

    Raises:
        Malformed: It is not what the model takes.
        Refused: It asks for too many tokens (413).
    """
    chat = isinstance(request, ChatRequest)
    tokens, context = spoken.model.tokens, spoken.model.gpt.context
    key = None
    if id_ is not None:
        if request.stream:
            raise Malformed("Idempotency-Key: a stream is billed as it is told; expected none with stream")
        named = hashlib.blake2b(repr((chat, id_)).encode() + body, digest_size=16)
        key = named.hexdigest()
    for name, neutral in (("presence_penalty", 0), ("frequency_penalty", 0)):
        _expect(getattr(request, name) in (None, neutral), f"{name} is not offered; expected {neutral}")
    prompts, logprobs, echo = _chat(request, tokens) if chat else _completion(request, tokens)  # type: ignore[arg-type]
    n = 1 if request.n is None else request.n
    _expect(n >= 1, f"n must be at least 1, not {n}")
    longest = max(map(len, prompts))
    most = _most_tokens(request, context - longest, echo)
    if longest + max(most, 1) > context:  # the token that begins a text takes a place too
        raise Malformed(
            f"the prompt has {longest} tokens; with {most} more, it exceeds the context of {context} tokens"
        )
    reserved = Usage(sum(map(len, prompts)), n * len(prompts) * most)
    if n * len(prompts) > MOST_TEXTS or sum(reserved) > spoken.most:
        raise Refused(
            f"{n * len(prompts)} texts and {sum(reserved)} tokens in one request; at most {MOST_TEXTS} and "
            f"{spoken.most} are answered",
            status=413,
        )
    seed = request.seed
    if seed is None:
        seed = secrets.randbits(63) if key is None else int(key, 16)
    texts = [
        Text(prompt, _sampling(request, tokens, most, logprobs, echo, seed, number), owner=account)
        for number, prompt in enumerate(chain.from_iterable([prompt] * n for prompt in prompts))
    ]
    stops = _stops(request.stop)
    include = request.stream_options is not None and request.stream_options.include_usage
    return Spoken(texts, reserved, stops, bool(request.stream), include, chat, key)


def _expect(right: bool, otherwise: str) -> None:
    if not right:
        raise Malformed(otherwise)


def _most_tokens(request: Request, room: int, echo: bool) -> int:
    given = request.max_tokens
    if isinstance(request, ChatRequest):
        if request.max_completion_tokens is not None:
            given = request.max_completion_tokens
        most = max(1, room) if given is None else given
    else:
        most = 16 if given is None else given
    _expect(most >= (0 if echo else 1), f"max_tokens must be at least 1, not {most}")
    return most


def _sampling(
    request: Request, tokens: Tokens, most: int, logprobs: int | None, echo: bool, seed: int, number: int
) -> Sampling:
    temperature = 1.0 if request.temperature is None else request.temperature
    top_p = 1.0 if request.top_p is None else request.top_p
    _expect(0 <= temperature <= 2, f"temperature must lie between 0 and 2, not {temperature}")
    _expect(0 <= top_p <= 1, f"top_p must lie between 0 and 1, not {top_p}")
    drawn_by = hashlib.blake2b(f"{seed}/{number}".encode(), digest_size=16)  # each choice has draws of its own
    biases = _biases(request.logit_bias or {}, len(tokens))
    return Sampling(most, temperature, top_p, int(drawn_by.hexdigest(), 16), logprobs, echo, biases)


def _biases(given: dict[str, float], vocabulary: int) -> dict[int, float]:
    _expect(len(given) <= MOST_BIASES, f"logit_bias has {len(given)} entries; expected at most {MOST_BIASES}")
    biases = {}
    for name, bias in given.items():
        known = name.isascii() and name.isdigit() and len(name) < 10 and int(name) < vocabulary
        _expect(known, f"logit_bias: no token {name[:20]!r}; the model has tokens 0 to {vocabulary - 1}")
        inside = math.isfinite(bias) and abs(bias) <= MOST_BIAS
        _expect(inside, f"logit_bias must lie between {-MOST_BIAS:g} and {MOST_BIAS:g}, not {bias}")
        biases[int(name)] = bias
    return biases


def _stops(given: str | list[str] | None) -> tuple[str, ...]:
    stops = () if given is None else (given,) if isinstance(given, str) else tuple(given)
    _expect(len(stops) <= MOST_STOPS, f"stop has {len(stops)} texts; expected at most {MOST_STOPS}")
    _expect(all(1 <= len(stop) <= MOST_STOP for stop in stops), f"a stop has from 1 to {MOST_STOP} characters")
    return stops


def _encoded(text: str, tokens: Tokens, context: int) -> list[int]:
    """Returns the tokens of a text, unless it is so long that they cannot fit."""
    if len(text) > (most := context * tokens.longest):
        raise Malformed(f"the prompt has {len(text)} characters; the context takes {most} at most")
    return tokens.encode(text)


def _completion(request: CompletionRequest, tokens: Tokens) -> tuple[list[list[int]], int | None, bool]:
    """Returns the prompts, how many log-probabilities are told, and whether prompts are echoed."""
    _expect(request.best_of in (None, request.n, 1), "best_of is not offered; expected as many as n")
    _expect(not request.suffix, "suffix is not offered")
    if request.logprobs is not None:
        inside = 0 <= request.logprobs <= min(MOST_LOGPROBS, len(tokens))
        _expect(inside, f"logprobs must lie between 0 and {MOST_LOGPROBS}, not {request.logprobs}")
    given: list[Any] = request.prompt if isinstance(request.prompt, list) else [request.prompt]
    if given and all(isinstance(one, int) for one in given):
        given = [given]
    _expect(0 < len(given) <= 128, f"prompt has {len(given)} texts; expected 1 to 128")
    return [_ids(one, tokens) for one in given], request.logprobs, bool(request.echo)


def _ids(prompt: Any, tokens: Tokens) -> list[int]:
    if isinstance(prompt, str):
        return _encoded(prompt, tokens, MOST_CONTEXT)
    _expect(isinstance(prompt, list), "prompt must be a text, a list of tokens, or a list of either")
    for token in prompt:
        _expect(
            0 <= token < len(tokens),
            f"prompt: no token {token}; the model has tokens 0 to {len(tokens) - 1}",
        )
    return list(prompt)


MOST_CONTEXT = 4096  # tokens of a prompt that are counted before it is refused


def _chat(request: ChatRequest, tokens: Tokens) -> tuple[list[list[int]], int | None, bool]:
    """Returns the prompt, in which the messages stand one after the other, and the log-probabilities to tell.

    The template is this one, whatever a model's folder says.
    """
    _expect(bool(request.messages), "messages must have at least one")
    top = request.top_logprobs
    if top is not None:
        _expect(bool(request.logprobs), "top_logprobs needs logprobs")
        inside = 0 <= top <= min(MOST_TOP_LOGPROBS, len(tokens))
        _expect(inside, f"top_logprobs must lie between 0 and {MOST_TOP_LOGPROBS}, not {top}")
    parts = [
        one.content if isinstance(one.content, str) else "".join(part.text for part in one.content)
        for one in request.messages
    ]
    return [_encoded(" ".join(parts), tokens, MOST_CONTEXT)], (top or 0) if request.logprobs else None, False
