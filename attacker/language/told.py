"""A record of every answered request to a language model: one line of JSON each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import orjson

from wire.completions import Completed, Completing, Decoding, Prompt


class Told:
    """Appends each answer to a file before it is used, so that no interruption loses any.

    A line has the ``prompts``, the ``decoding``, the ``completions`` of each prompt and the ``usage``.
    """

    def __init__(self, path: Path) -> None:
        """Takes the file, which is created with the first answer."""
        self._path = path
        self._file: BinaryIO | None = None

    def recorded(self, transport: Completing) -> Completing:
        """Returns a transport that records each answer before it returns it."""

        def ask(asked: tuple[Sequence[Prompt], Decoding]) -> Completed:
            completed = transport(asked)
            self.record(*asked, completed)
            return completed

        return ask

    def record(self, prompts: Sequence[Prompt], decoding: Decoding, completed: Completed) -> None:
        """Appends one answer."""
        line = {
            "prompts": [prompt if isinstance(prompt, str) else list(prompt) for prompt in prompts],
            "decoding": decoding,
            "completions": [[one._asdict() for one in each] for each in completed.completions],
            "usage": completed.usage._asdict(),
        }
        if self._file is None:
            self._file = self._path.open("wb")
        self._file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS))
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()
