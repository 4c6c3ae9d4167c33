"""Requests of OpenAI's completions and chat completions, read and checked."""

from __future__ import annotations

import hashlib
import math
import secrets
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, TypeVar

import msgspec

from defenses.admission.price import Usage
from server.deployment.language_stack import SpokenTo
from wire import Malformed, Refused
from zoo.language.model import LanguageModel
from zoo.language.sampling import Sampling
from zoo.language.tokens import Tokens

MOST_TEXTS = 128  # of one request
MOST_BIASES = 300
MOST_BIAS = 100.0
MOST_STOPS = 4
MOST_STOP = 64  # characters
MOST_LOGPROBS = 5
MOST_TOP_LOGPROBS = 20
MOST_KEY = 256  # characters of an idempotency key


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """The options of a stream."""

    include_usage: bool = False


class Common(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The fields that both kinds of request have."""

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
        texts: The tokens of each text to continue, those of one prompt side by side.
        sampling: How they are continued.
        reserved: The tokens of the prompts, and those that may be told.
        stops: Texts that end a completion.
        stream: Whether the answer is a stream.
        include_usage: Whether a stream ends with the usage.
        chat: Whether it is a chat.
        key: Names it in the ledger; None without an idempotency key.
    """

    texts: list[list[int]]
    sampling: Sampling
    reserved: Usage
    stops: tuple[str, ...]
    stream: bool
    include_usage: bool
    chat: bool
    key: str | None


R = TypeVar("R")


def decoded(body: bytes, kind: type[R]) -> R:
    """Reads the JSON of a request, or raises :class:`~wire.Malformed`."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"the request is not what is expected: {error}") from None


def checked(request: Request, spoken: SpokenTo, body: bytes, id_: str | None) -> Spoken:
    """Checks a request against its model.

    Args:
        request: The request.
        spoken: The model, as the account meets it.
        body: The bytes that it was read from.
        id_: The idempotency key that the client gave; a request with one draws alike whenever it is repeated.

    Raises:
        Malformed: It is not what the model takes.
        Refused: It asks for too many tokens (413).
    """
    chat = isinstance(request, ChatRequest)
    tokens, context = spoken.model.tokens, spoken.model.gpt.context
    key = request_key("chat" if chat else "completions", id_, body)
    if key is not None and request.stream:
        raise Malformed("Idempotency-Key: a stream is billed as it is told; expected none with stream")
    for name, neutral in (("presence_penalty", 0), ("frequency_penalty", 0)):
        _expect(getattr(request, name) in (None, neutral), f"{name} is not offered; expected {neutral}")
    prompts, logprobs, echo = _chat(request, spoken.model) if chat else _completion(request, spoken.model)  # type: ignore[arg-type]
    n = 1 if request.n is None else request.n
    _expect(n >= 1, f"n must be at least 1, not {n}")
    longest = max(map(len, prompts))
    most = _most_tokens(request, context - longest, echo and longest > 0)
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
    texts = list(chain.from_iterable([prompt] * n for prompt in prompts))
    sampling = _sampling(request, tokens, most, logprobs, echo, seed)
    stops = _stops(request.stop)
    include = request.stream_options is not None and request.stream_options.include_usage
    return Spoken(texts, sampling, reserved, stops, bool(request.stream), include, chat, key)


def request_key(kind: str, id_: str | None, body: bytes) -> str | None:
    """Returns the name of a request in the ledger; None without an idempotency key.

    Raises:
        Malformed: The key is too long.
    """
    if id_ is None:
        return None
    _expect(len(id_) <= MOST_KEY, f"Idempotency-Key has {len(id_)} characters; expected at most {MOST_KEY}")
    return hashlib.blake2b(repr((kind, id_)).encode() + body, digest_size=16).hexdigest()


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
    request: Request, tokens: Tokens, most: int, logprobs: int | None, echo: bool, seed: int
) -> Sampling:
    temperature = 1.0 if request.temperature is None else request.temperature
    top_p = 1.0 if request.top_p is None else request.top_p
    _expect(0 <= temperature <= 2, f"temperature must lie between 0 and 2, not {temperature}")
    _expect(0 <= top_p <= 1, f"top_p must lie between 0 and 1, not {top_p}")
    biases = _biases(request.logit_bias or {}, len(tokens))
    return Sampling(most, temperature, top_p, seed, logprobs, echo, biases)


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


def _encoded(text: str, model: LanguageModel, name: str) -> list[int]:
    """Returns the tokens of a text, unless it is so long that they cannot fit."""
    if len(text) > (most := model.gpt.context * model.tokens.longest):
        raise Malformed(f"{name} has {len(text)} characters; the context takes {most} at most")
    return model.tokens.encode(text)


def _completion(request: CompletionRequest, model: LanguageModel) -> tuple[list[list[int]], int | None, bool]:
    """Returns the prompts, how many log-probabilities are told, and whether prompts are echoed."""
    _expect(request.best_of in (None, request.n, 1), "best_of is not offered; expected as many as n")
    _expect(not request.suffix, "suffix is not offered")
    _expect(
        not (request.echo and model.gpt.reads), "echo is not offered: a translation does not begin with its prompt"
    )
    if request.logprobs is not None:
        inside = 0 <= request.logprobs <= min(MOST_LOGPROBS, len(model.tokens))
        _expect(inside, f"logprobs must lie between 0 and {MOST_LOGPROBS}, not {request.logprobs}")
    return prompts_of(request.prompt, model, "prompt"), request.logprobs, bool(request.echo)


def prompts_of(given: Any, model: LanguageModel, name: str) -> list[list[int]]:
    """Returns the tokens of texts: one or several, as texts or as tokens.

    Raises:
        Malformed: They are something else.
    """
    texts: list[Any] = given if isinstance(given, list) else [given]
    if texts and all(isinstance(one, int) for one in texts):
        texts = [texts]
    _expect(0 < len(texts) <= MOST_TEXTS, f"{name} has {len(texts)} texts; expected 1 to {MOST_TEXTS}")
    return [_ids(one, model, name) for one in texts]


def _ids(text: Any, model: LanguageModel, name: str) -> list[int]:
    if isinstance(text, str):
        return _encoded(text, model, name)
    _expect(isinstance(text, list), f"{name} must be a text, a list of tokens, or a list of either")
    last = len(model.tokens) - 1
    for token in text:
        _expect(0 <= token <= last, f"{name}: no token {token}; the model has tokens 0 to {last}")
    return list(text)


def _chat(request: ChatRequest, model: LanguageModel) -> tuple[list[list[int]], int | None, bool]:
    """Returns the prompt, in which the messages stand one after the other, and the log-probabilities to tell.

    The template is this one, whatever a model's folder says.
    """
    _expect(bool(request.messages), "messages must have at least one")
    top = request.top_logprobs
    if top is not None:
        _expect(bool(request.logprobs), "top_logprobs needs logprobs")
        inside = 0 <= top <= min(MOST_TOP_LOGPROBS, len(model.tokens))
        _expect(inside, f"top_logprobs must lie between 0 and {MOST_TOP_LOGPROBS}, not {top}")
    parts = [
        one.content if isinstance(one.content, str) else "".join(part.text for part in one.content)
        for one in request.messages
    ]
    return [_encoded(" ".join(parts), model, "the prompt")], (top or 0) if request.logprobs else None, False
