"""Harmless rows for a calibration: unlabelled, or as the streams of accounts of several kinds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wire import Array, BadInput, Card, Malformed
from wire.files import read_arrays
from wire.fits import as_bytes, misfit
from zoo.data.pool import Pool


class Stream(NamedTuple):
    """The rows of one account.

    Attributes:
        kind: The kind of customer.
        rows: Indices of its rows, in the order in which it sent them.
    """

    kind: str
    rows: Array


class Harmless(NamedTuple):
    """Harmless rows.

    Attributes:
        x: All rows, ``(n, ...)``, in the type in which the victim takes them.
        streams: The accounts; empty if the rows are not labelled.
    """

    x: Array
    streams: list[Stream]

    @staticmethod
    def read(paths: Sequence[Path], card: Card) -> Harmless:
        """Reads files of rows (npz).

        A file with an array ``account``, ``(n,)`` strings, has the streams of these accounts; its name, or an
        array ``kind`` beside it, names their kind. Without it, each of several files is the stream of one account,
        whose kind is the name of its folder. One file without it has rows that nobody sent.

        Raises:
            BadInput: A file is broken, or its rows do not fit the victim.
        """
        rows, streams, start = [], [], 0
        for path in paths:
            x = _fitting(path, card)
            labels = {name: _strings(path, name, len(x)) for name in ("account", "kind")}
            accounts, kinds = labels["account"], labels["kind"]
            at = np.arange(start, start + len(x))
            if accounts is not None:
                kinds = np.full(len(x), path.stem) if kinds is None else kinds
                pairs = np.unique(np.stack([kinds, accounts]), axis=1).T.tolist()
                streams += [Stream(kind, at[(kinds == kind) & (accounts == name)]) for kind, name in pairs]
            elif len(paths) > 1:
                streams.append(Stream(path.resolve().parent.name, at))
            rows.append(x)
            start += len(x)
        return Harmless(np.concatenate(rows), streams)

    def kinds(self) -> dict[str, list[Stream]]:
        """Returns the streams of each kind of customer."""
        found: dict[str, list[Stream]] = {}
        for stream in self.streams:
            found.setdefault(stream.kind, []).append(stream)
        return found

    def halves(self, rng: np.random.Generator) -> tuple[list[Stream], list[Stream]]:
        """Divides the accounts of each kind into those to choose on, and those to try it on.

        Raises:
            BadInput: A kind has fewer than two accounts.
        """
        chosen: list[Stream] = []
        held_out: list[Stream] = []
        for kind, streams in self.kinds().items():
            if len(streams) < 2:
                raise BadInput(
                    f"there is one account of the kind {kind!r}; expected two at least, to try it on one"
                )
            order = rng.permutation(len(streams))
            half = (len(streams) + 1) // 2
            chosen += [streams[i] for i in order[:half]]
            held_out += [streams[i] for i in order[half:]]
        return chosen, held_out


def _fitting(path: Path, card: Card) -> Array:
    """Reads harmless rows, in the type in which the victim takes them."""
    x = Pool.load(path).x
    try:
        if card.dtype == "UINT8":
            x = as_bytes(x)
    except Malformed as error:
        raise BadInput(f"{path}: {error}") from None
    if wrong := misfit(x, card):
        raise BadInput(f"{path}: {wrong}")
    return x


def _strings(path: Path, name: str, n: int) -> Array | None:
    found = read_arrays(path, "rows").get(name)
    if found is not None and (found.dtype.kind != "U" or found.shape != (n,)):
        raise BadInput(f"{path}: {name} must be ({n},) strings, not {found.shape} {found.dtype}")
    return found
