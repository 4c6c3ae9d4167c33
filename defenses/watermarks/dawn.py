"""DAWN: some rows, chosen by a key, are told another class, which a model that learns from the answers remembers.

Szyller, Atli, Marchal, Asokan, "DAWN: Dynamic Adversarial Watermarking of Neural Networks", ACM Multimedia 2021
(arXiv 1906.00830), "Generating the watermark" and "Mapping function". By default a row is its own mapping: a
near-duplicate is another row. With ``mapping = "median"`` a row is the bits that say which units of the victim's
last inner layer are above their medians; rows of the same bits, a cell, are told alike where the victim says the
same of them. What differs from the authors' code: all of a row is hashed, with its type and shape; 128 bits
decide; decision and class have keys of their own; the told class is never the victim's; the medians, those of the
first start, are used.

The inner layer is computed beside the victim, on a CPU, by passes in which a row's bits depend on that row alone,
whichever engine answers. Other processors, or versions of what computes, may round otherwise: a row of which a
unit is within rounding of its median may then be of another cell. So workers should be of one kind; a judge, who
computes the bits anew, counts such a mark as failed.

A marked answer has the probabilities of an honest one, with two of them exchanged. Who has a good idea of the true
class sees that it is wrong, as the victim's errors are, but surer of itself; labels alone, or few and rounded
probabilities, tell less. An answer that is marked for the first time takes a round trip to the store more. Whoever
takes the layer out of a stack lets everybody who asks again see which rows were marked.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from defenses.answers.renormalised import probs_of
from defenses.defense import Handler, Layer, Stage
from defenses.site import Site
from defenses.watermarks.ledger import Mark, MarkLedger, WatermarkParameters, encode_rows
from wire import Answer, Array, BadInput, Card, Labels, Query, Refused
from zoo.data.pool import Pool

log = logging.getLogger(__name__)

_MEDIANS = 10_000  # rows at most of which medians are taken
_UNITS = 64  # at least, that are above their medians for some of these rows and not for others
_SPREAD = 0.25  # of the rate, as a share of itself, that is more than the operator wants


class Keys:
    """The keys of decision and class, made of one."""

    def __init__(self, secret: bytes) -> None:
        """Takes the key of the marks."""
        self._decision, self._label = (
            hmac.digest(secret, use, "sha256") for use in (b"dawn decision", b"dawn label")
        )

    def marked(self, rate: float, form: str, rows: Sequence[bytes]) -> list[int]:
        """Returns which rows are marked: those whose HMAC's first 128 bits are less than ``rate * 2^128``."""
        inner, outer = _begun(self._decision, form)
        less_than = _below(rate)
        found = []
        for i, row in enumerate(rows):
            within, mac = inner.copy(), outer.copy()
            within.update(row)
            mac.update(within.digest())
            if mac.digest() < less_than:
                found.append(i)
        return found

    def label(self, form: str, row: bytes, said: int, classes: int) -> int:
        """Returns the class that is told of a marked row: drawn by its HMAC from all but the victim's."""
        mac = hmac.digest(self._label, form.encode() + b"\n" + row, "sha256")
        drawn = int.from_bytes(mac[:16], "big") % (classes - 1)
        return drawn + (drawn >= said)


@lru_cache(256)
def _begun(key: bytes, form: str) -> tuple[Any, Any]:
    """Returns the two hashes of HMAC-SHA256 (RFC 2104), the inner one of which has taken the form.

    To copy both costs less than to copy the library's HMAC, and much less than to begin it for each row.
    """
    inner, outer = (hashlib.sha256(bytes(octet ^ pad for octet in key.ljust(64, b"\0"))) for pad in (0x36, 0x5C))
    inner.update(form.encode() + b"\n")
    return inner, outer


@lru_cache(256)
def _below(rate: float) -> bytes:
    return int(rate * 2**128).to_bytes(16, "big")


def cells(above: Array) -> tuple[str, list[bytes]]:
    """Encodes which units are above their medians, ``(n, units)`` bool, as :func:`encode_rows` does rows.

    No row has this form, so that one key serves both mappings.
    """
    bits = np.packbits(above, axis=1)
    return f"median {above.shape[1]}", bits.view(f"V{bits.shape[1]}").ravel().tolist()


def rate_spread(rows: Sequence[bytes], rate: float) -> float:
    """Returns how far the realised rate lies from the wanted one for want of cells, as a share of it.

    A key marks each cell or not, with all its rows. This is the standard deviation over keys for a stream of which
    these rows are a sample, from how many pairs of them share a cell.
    """
    counts = np.unique(np.array(rows), return_counts=True)[1]
    pairs = float((counts * (counts - 1)).sum()) / (len(rows) * (len(rows) - 1))
    return math.sqrt(pairs * (1 - rate) / rate)


def commitment_to(secret: bytes) -> str:
    """Returns the hash that commits to a key, in hexadecimal; 256 random bits cannot be guessed from it."""
    return hashlib.sha256(b"dawn key\n" + secret).hexdigest()


@dataclass(frozen=True)
class Dawn:
    """Tells a share of the rows another class, and keeps a register of them for each account.

    All accounts are told the same, so that comparing answers shows no mark. A mark is in the register before its
    answer leaves.

    Attributes:
        rate: Share of the rows that are marked, fixed for the model's life.
        mapping: What decides: the ``exact`` row, or which units of an inner layer are above their ``median``;
            fixed, too.
        pool: File of rows (npz) of which medians are taken, at the first start; such as the victim's own rows.
            It is relative to the server's TOML file, or to where it was started.
    """

    rate: float
    mapping: Literal["exact", "median"] = "exact"
    pool: Path | None = None

    stage: ClassVar[Stage] = Stage.WATERMARK

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 0.5:
            raise BadInput(f"dawn: rate must lie between 0 and 0.5, not {self.rate}")
        if self.mapping == "exact" and self.pool is not None:
            raise BadInput('dawn: a pool has medians for mapping = "median"; the exact mapping takes none')

    def bind(self, site: Site) -> Layer:
        """Returns the layer that marks."""
        return Marking(self, site)

    def disclose(self, card: Card) -> Card:
        """Leaves the card as it is; stands inside what withholds or rounds."""
        if not card.tells_probs:
            raise BadInput("dawn: exchanges probabilities, so it must stand inside label_only")
        for name, value in (("top_k", card.top_k), ("rounding", card.digits)):
            if value is not None:
                raise BadInput(f"dawn: exchanges exact probabilities, so it must stand inside {name}")
        return card


class Marking:
    """The running layer."""

    def __init__(self, dawn: Dawn, site: Site) -> None:
        """Reads nothing yet."""
        self.rate, self.mapping, self.pool = dawn.rate, dawn.mapping, dawn.pool
        self.model, self.victim, self.secret = site.model, site.fingerprint, site.secret
        self.auxiliary, self._classes = site.companions, site.card.classes
        self._keys: Any = Keys(site.secret)
        self._register: Any = MarkLedger(site.store, site.model)

    async def __call__(self, query: Query, handle: Handler) -> Answer:
        """Answers with marks.

        Raises:
            Refused: The store is away, or the register does not hold together (503).
        """
        answer = await handle(query)
        try:
            return await self._marking(query, answer)
        except BadInput as fault:
            log.error("no marked row of model %s is answered: %s", self.model, fault)
            raise Refused("the register of this model does not hold together", status=503) from fault

    async def _marking(self, query: Query, answer: Answer) -> Answer:
        exact = self.mapping == "exact"
        form, points = encode_rows(query.x) if exact else await self._cells(query.x, probs_of(answer).shape[1])
        marked = self._keys.marked(self.rate, form, points)
        if not marked:
            return answer
        classes = probs_of(answer).shape[1]
        kind, rows = encode_rows(query.x[marked])
        marks = []
        for i, row in zip(marked, rows, strict=True):
            said = int(answer.labels[i])
            told = self._keys.label(form, points[i], said, classes)
            marks.append(Mark(kind, row, said, told, query.at, None if exact else points[i].hex()))
        await self._begin(classes)
        await self._register.add(query.account, marks)
        return exchanged(answer, np.array(marked), np.array([mark.told_label for mark in marks]))

    async def _cells(self, x: Array, classes: int) -> tuple[str, list[bytes]]:
        """Returns the cells of rows ``(n, ...)``, as :func:`cells` does."""
        await self._begin(classes)
        of = await self.auxiliary.activation_bits(self._register.parameters.limits)
        told = await of(x)
        return cells(told[:, 1] > told[:, 0])

    async def start(self) -> None:
        """Reads the register, or makes it.

        Raises:
            BadInput: The register is broken or was made for other marks.
        """
        await self._begin(self._classes)
        await self._register.read()
        if self.mapping == "median":
            await self.auxiliary.activation_bits(self._register.parameters.limits)

    async def _begin(self, classes: int) -> None:
        common = WatermarkParameters(self.model, self.rate, classes, commitment_to(self.secret), self.victim)
        await self._register.begin(common, None if self.mapping == "exact" else self._medians)

    async def _medians(self) -> Array:
        """Takes the medians, ``(units,)``; the register keeps them."""
        if self.pool is None:
            raise BadInput(
                'dawn: mapping = "median" needs a pool of rows at the first start, such as the victim\'s'
            )
        pool = await asyncio.to_thread(Pool.load, self.pool)
        try:
            activations = await self.auxiliary.activations(pool.x[:_MEDIANS])
        except BadInput as fault:
            raise BadInput(f"dawn: {self.pool}: {fault}") from None
        medians: Array = np.median(activations, axis=0)
        above = activations > medians
        units = int((above.any(axis=0) & ~above.all(axis=0)).sum())
        if units < _UNITS:
            raise BadInput(f"dawn: the inner layer tells rows apart by {units} units; expected at least {_UNITS}")
        spread = rate_spread(cells(above)[1], self.rate)
        if spread > _SPREAD:
            log.warning(
                "model %s: so many rows of the pool share cells that the rate of marks is %g give or take %.0f %%",
                *(self.model, self.rate, 100 * spread),
            )
        return medians


def exchanged(answer: Answer, rows: Labels, told: Labels) -> Answer:
    """Returns an answer in which the rows ``rows``, ``(m,)``, tell the classes ``told``, ``(m,)``."""
    probs, labels = probs_of(answer).copy(), answer.labels.copy()
    said = labels[rows]
    probs[rows, said], probs[rows, told] = probs[rows, told], probs[rows, said]
    labels[rows] = told
    others = probs[rows]
    others[np.arange(len(rows)), told] = 0
    even = np.flatnonzero(others.max(axis=1) >= probs[rows, told])  # two were as likely as each other
    probs[rows[even], told[even]] = np.nextafter(probs[rows[even], told[even]], np.float32(2))
    return Answer(labels, probs)
