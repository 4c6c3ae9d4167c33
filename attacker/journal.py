"""Records of every answered row with its answer."""

from __future__ import annotations

from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO

import numpy as np
import orjson
from numpy.lib import format as npy

from wire import Answer, Array, BadInput, Malformed, Transport
from wire.files import array_header
from zoo.data.pool import texts


class Recording:
    """Records every answered row with its answer, in memory.

    Attributes:
        asked: Batches of rows, in the order of their answers.
        answers: The answers to the batches.
    """

    def __init__(self, transport: Transport) -> None:
        self.asked: list[Array] = []
        self.answers: list[Answer] = []
        self._transport = transport

    def __call__(self, x: Array) -> Answer:
        """Returns the answer to the rows ``x``, ``(n, *input_shape)``, and records both."""
        answer = self._transport(x)
        self.asked.append(x)
        self.answers.append(answer)
        return answer


class Journal:
    """Appends each answered row to a file before its answer is used, so that no interruption loses any.

    The file has numpy's npy format, except that the number of rows in its header is 0. Texts are in a second file,
    in JSON, one a line.
    """

    def __init__(self, path: Path, classes: int) -> None:
        """Takes the file.

        Args:
            path: The file, created with the first answer.
            classes: Number of classes k, for answers with labels only, or length of embeddings.
        """
        self._path, self._classes = path, classes
        self._file: BinaryIO | None = None
        self._texts: BinaryIO | None = None

    def recorded(self, transport: Transport) -> Transport:
        """Returns a transport that records each answer before it returns it; several may share the journal."""

        def ask(x: Array) -> Answer:
            answer = transport(x)
            self.record(x, answer)
            return answer

        return ask

    def record(self, x: Array, answer: Answer) -> None:
        """Appends the rows ``x``, ``(n, *input_shape)``, and their answer.

        Raises:
            Malformed: The number of classes differs from that of the first answer.
        """
        kind, told = ("probs", answer.probs) if answer.embeddings is None else ("embedding", answer.embeddings)
        if self._file is None:
            self._begin(x, kind, self._classes if told is None else told.shape[1])
        records = np.empty(len(answer), self._dtype)
        records["label"], records[kind] = answer.labels, np.nan
        if self._texts is None:
            records["x"] = x
        else:
            self._texts.write(b"".join(orjson.dumps(text, option=orjson.OPT_APPEND_NEWLINE) for text in x))
            self._texts.flush()
        if told is not None:
            if told.shape[1:] != records[kind].shape[1:]:
                raise Malformed(f"got {told.shape[1]} numbers about a row, earlier {self._classes}")
            records[kind] = told
        assert self._file is not None
        self._file.write(records.tobytes())
        self._file.flush()

    def close(self) -> None:
        """Closes the files."""
        for file in (self._file, self._texts):
            if file is not None:
                file.close()

    def _begin(self, x: Array, kind: str, classes: int) -> None:
        self._classes = classes
        are_texts = x.dtype == object
        fields = [("x", "<f4", (0,) if are_texts else x.shape[1:]), ("label", "<i8"), (kind, "<f4", (classes,))]
        self._dtype = np.dtype(fields)
        if are_texts:
            self._texts = _texts_of(self._path).open("wb")
        self._file = self._path.open("wb")
        npy.write_array_header_1_0(self._file, {"descr": self._dtype.descr, "fortran_order": False, "shape": (0,)})


def _texts_of(journal: Path) -> Path:
    return journal.with_suffix(".texts")


def read_journal(path: Path) -> tuple[Array, Answer]:
    """Reads the rows that :class:`Journal` has written so far, without an incomplete last record.

    Returns:
        The rows, ``(n, *input_shape)`` float32 or ``(n,)`` texts, and their answer, NaN where a probability was
        withheld.

    Raises:
        BadInput: The file is not a journal.
    """
    written = None
    try:
        with path.open("rb") as file:
            _, dtype = array_header(file)
            forms = {name: (form.base.str, form.ndim) for name, (form, *_) in (dtype.fields or {}).items()}
            kind = "embedding" if "embedding" in forms else "probs"
            if forms.pop("x", ("", 0))[0] != "<f4" or forms != {"label": ("<i8", 0), kind: ("<f4", 1)}:
                raise ValueError(f"its records are {dtype}")
            content = file.read()
        if _texts_of(path).exists():
            lines = _texts_of(path).read_bytes().split(b"\n")[:-1]
            written = texts([str(orjson.loads(line)) for line in lines])
    except (ValueError, SyntaxError, TokenError) as error:
        raise BadInput(f"{path}: not a journal of answers: {error}") from None
    records = np.frombuffer(content, dtype, len(content) // dtype.itemsize)
    if kind == "embedding":
        answer = Answer.of_embeddings(records[kind])
    else:
        answer = Answer(records["label"], records[kind])
    return (records["x"], answer) if written is None else (written[: len(answer)], answer[: len(written)])


def save_transfer(journal: Path, path: Path) -> int:
    """Writes the transfer set (npz) from a journal, removes the journal, and returns the number of rows.

    The transfer set has the rows ``x``, ``(n, *input_shape)`` float32, their ``labels``, ``(n,)`` int64, and
    ``probs``, ``(n, k)`` float32, NaN where withheld, or ``embeddings``, ``(n, d)`` float32. Texts are ``texts``,
    a JSON list as bytes.
    """
    x, answer = read_journal(journal)
    rows = {"texts": np.frombuffer(orjson.dumps(x.tolist()), np.uint8)} if x.dtype == object else {"x": x}
    with path.open("wb") as file:
        told: dict[str, Any] = (
            {"probs": answer.probs} if answer.embeddings is None else {"embeddings": answer.embeddings}
        )
        np.savez_compressed(file, **rows, labels=answer.labels, **told)
    journal.unlink()
    _texts_of(journal).unlink(missing_ok=True)
    return len(answer)
