"""Marks: the rows that got a false label, and how they are written into the ledger."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from defenses.answers.row_noise import canonical
from defenses.watermarks.ledger.chain import Broken, Record
from wire import Array


@dataclass(frozen=True)
class WatermarkParameters:
    """What all marks of a model have in common. It is fixed for the life of the model.

    Attributes:
        model: Name of the model.
        rate: Share of the rows that are marked.
        classes: Number of classes.
        key: SHA-256 of the watermark key, in hexadecimal.
        victim: SHA-256 of the victim's weights, in hexadecimal.
        medians: Medians of the victim's penultimate layer, float32 in hexadecimal; None with the exact mapping.
    """

    model: str
    rate: float
    classes: int
    key: str
    victim: str
    medians: str | None = None

    @property
    def mapping(self) -> str:
        """Name of the mapping."""
        return "exact" if self.medians is None else "median"

    @property
    def limits(self) -> Array:
        """The medians, ``(units,)`` float32.

        Raises:
            Broken: There are none.
        """
        try:
            return np.frombuffer(bytes.fromhex(self.medians or ""), "<f4")
        except ValueError:
            raise Broken("the medians are not readable") from None

    @property
    def members(self) -> dict[str, Any]:
        """The JSON members under which they are stored."""
        return _without_none(asdict(self))

    def fixed(self) -> dict[str, Any]:
        """Returns by name the values that a later start must repeat: all but the medians themselves."""
        return {**asdict(replace(self, medians=None)), "mapping": self.mapping}


@dataclass(frozen=True)
class Mark:
    """A row for which an account got another label than the victim's.

    Attributes:
        form: Type and shape of the row, as in :func:`encode_rows`.
        row: Its bytes, likewise.
        victim_label: The victim's label.
        told_label: The false label that the account got.
        at: When, in seconds since the epoch.
        cell: What the mapping makes of the row, in hexadecimal; None with the exact mapping.
    """

    form: str
    row: bytes
    victim_label: int
    told_label: int
    at: float
    cell: str | None = None

    @property
    def x(self) -> Array:
        """The row, ``(*input_shape)``."""
        dtype, _, shape = self.form.partition(" ")
        axes = [int(axis) for axis in shape.split("x") if axis]
        if dtype == "text":
            return np.array(json.loads(self.row), object).reshape(axes)
        return np.frombuffer(self.row, dtype).reshape(axes)

    @property
    def record(self) -> Record:
        """The ledger's record of it."""
        members = {
            "form": self.form,
            "said": self.victim_label,
            "told": self.told_label,
            "at": self.at,
            "cell": self.cell,
        }
        return _without_none(members), self.row

    @staticmethod
    def of(members: dict[str, Any], row: bytes, entry: str) -> Mark:
        """Reads a record.

        Args:
            members: Its JSON members.
            row: The bytes of the row.
            entry: Where it stands, for messages.

        Raises:
            Broken: It is no mark, or its row is encoded otherwise than by :func:`encode_rows`: a row of many
                encodings could be counted as many marks.
        """
        expected = {"form", "said", "told", "at"}
        if members.keys() - {"cell"} != expected:
            raise Broken(f"{entry} has the members {sorted(members)}; expected {sorted(expected)}")
        said, told = members["said"], members["told"]
        if type(said) is not int or type(told) is not int:
            raise Broken(f"{entry} has the labels {said!r} and {told!r}, which are no integers")
        mark = Mark(members["form"], row, said, told, members["at"], members.get("cell"))
        try:
            form, (canonical_row,) = encode_rows(mark.x[None])
        except (AttributeError, TypeError, ValueError):
            raise Broken(f"{entry} holds no row of the form {mark.form!r}") from None
        if (form, bytes(canonical_row)) != (mark.form, row):
            raise Broken(f"{entry} holds a row that is not encoded canonically, in the form {mark.form!r}")
        return mark


def encode_rows(x: Array) -> tuple[str, Sequence[bytes]]:
    """Encodes rows ``(n, ...)``. Rows that no model tells apart get the same encoding.

    Returns:
        Type and shape of a row, such as ``<f4 1x28x28``, and the bytes of each: its numbers in order, with -0.0 as
        0.0 and any NaN as numpy's; of texts, a JSON list of them.
    """
    form, row = _form(x.dtype, x.shape[1:])
    if row is None:
        return form, [json.dumps(texts).encode() for texts in x.reshape(len(x), -1).tolist()]
    return form, canonical(x).view(row).ravel().tolist()


@lru_cache(256)
def _form(dtype: np.dtype[Any], shape: tuple[int, ...]) -> tuple[str, np.dtype[Any] | None]:
    """Returns type and shape of a row, and the type of its bytes unless it is text."""
    axes = "x".join(map(str, shape))
    if dtype.kind in "OU":
        return f"text {axes}", None
    return f"{dtype.str} {axes}", np.dtype((np.void, dtype.itemsize * math.prod(shape)))


def _without_none(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
