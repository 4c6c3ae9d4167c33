"""Marks: rows that got a false label, and their encoding in the ledger."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from defenses.watermarks.ledger.chain import Broken, Record
from wire import Array

_INFINITY = {
    2: 0x7C00,
    4: 0x7F80_0000,
    8: 0x7FF0_0000_0000_0000,
}  # its bit pattern, by the size of a float in bytes


@dataclass(frozen=True)
class WatermarkParameters:
    """The parameters shared by all marks of a model, fixed for the model's lifetime.

    Attributes:
        model: Name of the model.
        rate: Share of rows that are marked.
        classes: Number of classes.
        key: SHA-256 of the watermark key, in hexadecimal.
        victim: SHA-256 of the victim's weights, in hexadecimal.
        medians: Medians of the victim's penultimate layer, float32 in hexadecimal; None with the exact mapping.
        grid: Name of the grid of the exact mapping (:mod:`defenses.answers.grid`); None with the median mapping.
            Earlier versions had no grid: each row was its own point, as a text is.
    """

    model: str
    rate: float
    classes: int
    key: str
    victim: str
    medians: str | None = None
    grid: str | None = None

    @property
    def mapping(self) -> str:
        """Name of the mapping."""
        return "exact" if self.medians is None else "median"

    @property
    def limits(self) -> Array:
        """The medians, ``(units,)`` float32.

        Raises:
            Broken: The medians are invalid.
        """
        try:
            return np.frombuffer(bytes.fromhex(self.medians or ""), "<f4")
        except ValueError:
            raise Broken("the medians are invalid") from None

    @property
    def members(self) -> dict[str, Any]:
        """The parameters as JSON members."""
        return _without_none(asdict(self))

    def fixed(self) -> dict[str, Any]:
        """Returns, by name, the values that must not change at a later start: all but the medians."""
        return {"mapping": self.mapping, **asdict(replace(self, medians=None))}


@dataclass(frozen=True)
class Mark:
    """A row for which an account got a false label.

    Attributes:
        form: Dtype and shape of the row, as in :func:`encode_rows`.
        row: Bytes of the row, as in :func:`encode_rows`.
        victim_label: The victim's label.
        told_label: The false label that the account got.
        at: Time of the answer, in seconds since the epoch.
        cell: The mapped row, in hexadecimal; None with the exact mapping.
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
        """The mark as a record of the ledger."""
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
            members: JSON members of the record.
            row: Bytes of the row.
            entry: Name of the entry, for error messages.

        Raises:
            Broken: The record is not a mark, or its row is not encoded as by :func:`encode_rows`. (With several
                encodings, a row could count as several marks.)
        """
        expected = {"form", "said", "told", "at"}
        if members.keys() - {"cell"} != expected:
            raise Broken(f"{entry} has the members {sorted(members)}; expected {sorted(expected)}")
        victim_label, told_label = members["said"], members["told"]
        if type(victim_label) is not int or type(told_label) is not int:
            raise Broken(f"{entry} has the labels {victim_label!r} and {told_label!r}, which are not integers")
        mark = Mark(members["form"], row, victim_label, told_label, members["at"], members.get("cell"))
        try:
            form, (canonical_row,) = encode_rows(mark.x[None])
        except (AttributeError, TypeError, ValueError):
            raise Broken(f"{entry} does not hold a row of the form {mark.form!r}") from None
        if (form, bytes(canonical_row)) != (mark.form, row):
            raise Broken(f"{entry} holds a row of the form {mark.form!r} in a non-canonical encoding")
        return mark


def encode_rows(x: Array) -> tuple[str, Sequence[bytes]]:
    """Encodes rows ``(n, ...)``. Rows that no model distinguishes get the same encoding.

    Returns:
        Dtype and shape of a row, such as ``<f4 1x28x28``, and the bytes of each row: its numbers in order, with
        -0.0 as 0.0 and any NaN as numpy's; for texts, a JSON list of them.
    """
    form, row = _form(x.dtype, x.shape[1:])
    if row is None:
        return form, [json.dumps(texts).encode() for texts in x.reshape(len(x), -1).tolist()]
    return form, _canonical(x).view(row).ravel().tolist()


def _canonical(x: Array) -> Array:
    """Returns the bytes of numeric rows, ``(n, bytes)`` uint8; equal for rows that no model distinguishes."""
    # Tests for negative values, -0.0 and NaN; for a single row, the ufunc takes half the time of the method.
    if x.dtype.kind == "f" and np.maximum.reduce(x.view(f"u{x.itemsize}"), axis=None) > _INFINITY[x.itemsize]:
        x = np.where(np.isnan(x), x.dtype.type(np.nan), x) + x.dtype.type(0)  # -0.0 becomes 0.0
    return np.ascontiguousarray(x).reshape(len(x), -1).view(np.uint8)


@lru_cache(256)
def _form(dtype: np.dtype[Any], shape: tuple[int, ...]) -> tuple[str, np.dtype[Any] | None]:
    """Returns dtype and shape of a row as text, and the dtype of its bytes unless it is text."""
    axes = "x".join(map(str, shape))
    if dtype.kind in "OU":
        return f"text {axes}", None
    return f"{dtype.str} {axes}", np.dtype((np.void, dtype.itemsize * math.prod(shape)))


def _without_none(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
