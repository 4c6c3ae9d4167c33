"""Continues the texts of all prompts to a language model together, in a thread."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from defenses import Prompt
from defenses.generation import Piece
from server.deployment.turn import closing
from wire import Array
from zoo.language.generation import Batch, Text, text_of
from zoo.language.model import LanguageModel

log = logging.getLogger(__name__)

Queue = asyncio.Queue[Piece | Exception]


class Writer:
    """A language model without defences: continues prompts."""

    def __init__(self, model: LanguageModel) -> None:
        self._model, self._batch = model, Batch(model)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tokens")
        self._queues: dict[Text, tuple[int, Queue]] = {}
        self._new: list[Text] = []
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, prompt: Prompt) -> Writing:
        """Begins to continue the texts of a prompt."""
        told = Queue()
        texts = []
        for number, tokens in enumerate(prompt.texts):
            sampling = replace(prompt.sampling, seed=_seed(prompt.sampling.seed, number))
            texts.append(text_of(self._model, tokens, sampling, prompt.account))
        for number, text in enumerate(texts):
            self._queues[text] = number, told
            self._new.append(text)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._write())
        return Writing(self, texts, told)

    def leave(self, text: Text) -> None:
        """Ends a text before its next token."""
        text.left = True
        self._queues.pop(text, None)

    async def embed(self, texts: Sequence[Sequence[int]]) -> Array:
        """Returns the embeddings of texts, ``(n, width)``, between two steps of generation."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._model.embeddings, texts)

    async def close(self) -> None:
        """Ends all texts."""
        for text in list(self._queues):
            self._end(closing(), text)
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        self._thread.shutdown()

    def _end(self, why: Exception, text: Text) -> None:
        _, queue = self._queues[text]
        self.leave(text)
        queue.put_nowait(why)

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while self._new or len(self._batch):
            for text in self._new:
                self._batch.join(text)
            self._new = []
            try:
                told = await loop.run_in_executor(self._thread, self._batch.step)
            except Exception as error:
                log.exception("a step of generation failed")
                self._batch = Batch(self._model)
                for text in list(self._queues):
                    self._end(error, text)
                continue
            for text, tokens in told:
                if (found := self._queues.get(text)) is not None:
                    number, queue = found
                    queue.put_nowait((number, tokens))
                    if not text.sampling.max_tokens or tokens[-1].finish:
                        del self._queues[text]


class Writing:
    """A completion that is being written."""

    def __init__(self, writer: Writer, texts: Sequence[Text], told: Queue) -> None:
        self._writer, self._texts, self._told = writer, texts, told

    async def next(self) -> Piece:
        """Returns the next tokens of a text, or raises the error that ended it."""
        piece = await self._told.get()
        if isinstance(piece, Exception):
            raise piece
        return piece

    def leave(self, number: int) -> None:
        """Ends a text early."""
        self._writer.leave(self._texts[number])


def _seed(seed: int, number: int) -> int:
    """Returns the seed of a prompt's text: each has draws of its own."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{number}".encode(), digest_size=16).digest(), "big")
