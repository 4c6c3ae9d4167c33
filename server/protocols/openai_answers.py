"""Answers in OpenAI's shapes: whole, or piece by piece."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from server.deployment.language_stack import SpokenTo
from server.protocols.openai_messages import Spoken
from zoo.language.reading import Reader
from zoo.language.sampling import Told
from zoo.language.tokens import END


class _Choice:
    """A completion as far as it is known."""

    def __init__(self, prompt: Sequence[int], echo: bool, stops: Sequence[str]) -> None:
        self.prompt = len(prompt) if echo else 0
        self.reader, self.offsets = Reader(stops), Reader()
        self.echoed = Reader()
        self.texts: list[str] = []
        self.tokens: list[Told] = []
        self.starts: list[int] = []  # of each token, how many characters stand before it
        self.length = 0
        self.finish: str | None = None
        self.sent = 0, 0  # texts and tokens


class Answering:
    """Makes the answer of what is told.

    Attributes:
        told: How many tokens of completions were told so far, beside echoes of prompts. Of a stream, those of the
            pieces that were made.
    """

    def __init__(self, spoken: SpokenTo, asked: Spoken, request: str, created: int) -> None:
        self.told = 0
        self._names, self._model, self._asked = spoken.model.tokens, spoken.name, asked
        self._choices = [_Choice(text, asked.sampling.echo, asked.stops) for text in asked.texts]
        self._id = f"{'chatcmpl' if asked.chat else 'cmpl'}-{request}"
        self._created = created

    @property
    def ended(self) -> bool:
        """Whether all is told."""
        return all(choice.finish for choice in self._choices)

    def read(self, number: int, tokens: Sequence[Told]) -> bool:
        """Adds generated tokens to a text; returns whether a stop sequence ended it before its last token."""
        choice, sampling = self._choices[number], self._asked.sampling
        for one in tokens:
            echo = len(choice.tokens) < choice.prompt
            piece = b"" if one.token == END else self._names.bytes_of([one.token])
            choice.starts.append(choice.length)
            choice.length += len(choice.offsets.read(piece))
            choice.tokens.append(one)
            reader = choice.echoed if echo else choice.reader  # a stop in the prompt ends nothing
            last = len(choice.tokens) == choice.prompt if echo else bool(one.finish)
            choice.texts.append(reader.read(piece, last))
            if not self._asked.stream:
                self.told += not echo
            if choice.reader.stopped:
                choice.finish = "stop"
                return one.finish is None
            choice.finish = one.finish
        if not sampling.max_tokens:
            choice.finish = "length"
        return False

    def whole(self) -> dict[str, Any]:
        """Returns the whole answer."""
        choices = []
        for number, choice in enumerate(self._choices):
            text = "".join(choice.texts)
            body: dict[str, Any] = {"index": number, "logprobs": self._logprobs(number, 0)}
            if self._asked.chat:
                body["message"] = {"role": "assistant", "content": text, "refusal": None}
            else:
                body["text"] = text
            choices.append({**body, "finish_reason": choice.finish})
        kind = "chat.completion" if self._asked.chat else "text_completion"
        return {**self._head(kind), "choices": choices, "usage": self._usage(self.told)}

    def piece(self, number: int) -> dict[str, Any] | None:
        """Returns what is new of a text, as an event of a stream; None if nothing can be told yet."""
        choice, sampling = self._choices[number], self._asked.sampling
        texts, tokens = choice.sent
        text = "".join(choice.texts[texts:])
        if not text and choice.finish is None and sampling.logprobs is None:
            return None
        body: dict[str, Any] = {"index": number, "logprobs": self._logprobs(number, tokens)}
        if self._asked.chat:
            role = {} if tokens else {"role": "assistant"}
            body["delta"] = {**role, "content": text}
        else:
            body["text"] = text
        self.told += sum(at >= choice.prompt for at in range(tokens, len(choice.tokens)))
        choice.sent = len(choice.texts), len(choice.tokens)
        kind = "chat.completion.chunk" if self._asked.chat else "text_completion"
        return {**self._head(kind), "choices": [{**body, "finish_reason": choice.finish}]}

    def usage(self) -> dict[str, Any]:
        """Returns the last event of a stream that tells its usage."""
        kind = "chat.completion.chunk" if self._asked.chat else "text_completion"
        return {**self._head(kind), "choices": [], "usage": self._usage(self.told)}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": self._model}

    def _usage(self, told: int) -> dict[str, int]:
        prompt = self._asked.reserved.prompt
        return {"prompt_tokens": prompt, "completion_tokens": told, "total_tokens": prompt + told}

    def _logprobs(self, number: int, since: int) -> dict[str, Any] | None:
        """Returns the log-probabilities of a text's tokens from one on; None if they were not asked."""
        choice, name = self._choices[number], self._names.name
        if self._asked.sampling.logprobs is None:
            return None
        tokens = choice.tokens[since:]
        if self._asked.chat:
            content = [
                {**self._of(one.token, one.logprob), "top_logprobs": [self._of(*top) for top in one.top]}
                for one in tokens
            ]
            return {"content": content, "refusal": None}
        return {
            "tokens": [name(one.token) for one in tokens],
            "token_logprobs": [one.logprob for one in tokens],
            "top_logprobs": [
                None if one.logprob is None else {name(token): value for token, value in one.top} for one in tokens
            ],
            "text_offset": choice.starts[since:],
        }

    def _of(self, token: int, logprob: float | None) -> dict[str, Any]:
        content = b"" if token == END else self._names.bytes_of([token])
        return {"token": self._names.name(token), "logprob": logprob, "bytes": list(content)}
