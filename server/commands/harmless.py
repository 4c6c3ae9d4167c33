"""Harmless rows for a calibration: unlabelled, or as the streams of accounts of several kinds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from defenses.detectors.detector import Sent
from server.commands.access_log import Log
from wire import Array, BadInput, Card, Malformed
from wire.files import read_arrays
from wire.fits import as_bytes, misfit
from zoo.data.pool import Pool, bytes_to_rows


class Stream(NamedTuple):
    """The rows of one account.

    Attributes:
        kind: The kind of customer.
        rows: Indices of its rows, in the order in which it sent them.
        sent: When and from where each came; empty if that is unknown.
    """

    kind: str
    rows: Array
    sent: Sequence[Sent] = ()


class Harmless(NamedTuple):
    """Harmless rows.

    Attributes:
        x: All rows, ``(n, ...)``, in the type in which the victim takes them.
        streams: The accounts; empty if the rows are not labelled.
    """

    x: Array
    streams: list[Stream]

    @staticmethod
    def read(paths: Sequence[Path], card: Card, dismissed: Mapping[str, float] | None = None) -> Harmless:
        """Reads files of rows (npz).

        A file with an array ``account``, ``(n,)`` strings, has the streams of these accounts; its name, or an
        array ``kind`` beside it, names their kind. Without it, each of several files is the stream of one account,
        whose kind is the name of its folder. One file without it has rows that nobody sent. A log of requests
        (``.jsonl``, :mod:`server.commands.access_log`) has the streams of its accounts.

        Args:
            paths: The files.
            card: The victim's card; of a log, the requests to a model of its name are read.
            dismissed: Of a log, only these accounts are harmless, each up to a time; all, if None.

        Raises:
            BadInput: A file is broken, or its rows do not fit the victim.
        """
        rows, streams, start = [], [], 0
        accounts: Array | None
        kinds: Array | None
        for path in paths:
            sent: list[Sent] = []
            if path.suffix == ".jsonl":
                x, accounts, kinds, sent = _logged(path, card, dismissed)
            else:
                x = _fitting(path, Pool.load(path).x, card)
                accounts, kinds = (_strings(path, name, len(x)) for name in ("account", "kind"))
            at = np.arange(start, start + len(x))
            if accounts is not None:
                kinds = np.full(len(x), path.stem) if kinds is None else kinds
                pairs = np.unique(np.stack([kinds, accounts]), axis=1).T.tolist()
                for kind, name in pairs:
                    mine = np.flatnonzero((kinds == kind) & (accounts == name))
                    streams.append(Stream(kind, at[mine], [sent[i] for i in mine] if sent else ()))
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


def _logged(
    path: Path, card: Card, dismissed: Mapping[str, float] | None
) -> tuple[Array, Array, Array, list[Sent]]:
    """Returns the rows of a model's requests in a log, ``(n, ...)``, and each one's account, kind and origin.

    Requests that repeat an earlier one under its key are left out. The kind is the one that the line names, else
    the account's plan, else the name of the file.
    """
    rows, names, seen, sent = [], [], set(), list[Sent]()
    log = Log(path)
    for block in log.blocks():
        for request in block:
            key = (request.account, request.key)
            if dismissed is not None and request.at > dismissed.get(request.account, -math.inf):
                continue
            if request.model not in ("", card.model) or (request.key is not None and key in seen):
                continue
            seen.add(key)
            x = log.array([request], "x")
            if x is None:
                raise log.fault(request.line, f'{request.file} has no rows ("x")')
            rows.append(bytes_to_rows(x) if x.dtype == np.uint8 else x)
            kind = request.kind or request.origin.plan or path.stem
            kind = "dismissed" if dismissed is not None else kind
            names += [(request.account, kind)] * len(x)
            sent += [Sent(request.at, request.origin)] * len(x)
    if not rows:
        of = "" if dismissed is None else " of those whose alarms were dismissed as harmless"
        raise BadInput(f"{path}: nobody{of} asked the model {card.model!r}")
    accounts, kinds = np.array(names, str).T
    known = any(one.at for one in sent)
    return _fitting(path, np.concatenate(rows), card), accounts, kinds, sent if known else []


def _fitting(path: Path, x: Array, card: Card) -> Array:
    """Returns harmless rows in the type in which the victim takes them."""
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
