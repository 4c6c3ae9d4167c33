"""DAWN: gives a keyed share of inputs a false label, which a model trained on the answers memorises.

Source: Szyller, Atli, Marchal, Asokan, "DAWN: Dynamic Adversarial Watermarking of Neural Networks", ACM Multimedia
2021 (arXiv 1906.00830), "Generating the watermark" and "Mapping function". For an input x of the victim F_V:

1. M_V(x), the mapping function, is the row itself or the cell of its activations (``mapping.py``).
2. W_V(x) = 1, x is marked, if the first 128 bits of HMAC(K_w, M_V(x)) are less than r_w 2^128 (``key.py``).
3. B_V(x), the false label, is drawn by a second HMAC of M_V(x) from all classes but F_V(x).
4. The mark is registered in the account's trigger set (``ledger/``).
5. The answer is returned, with the probabilities of the two labels exchanged.

Decision and label depend on key and input only: all accounts get the same answer, and neither comparing nor
repeating queries reveals a mark. The authors' code hashes 25 bytes of x and compares 16 bits. This
implementation hashes the whole row, rounded to a grid, with its shape, and compares 128 bits. The paper derives
the label by a keyed permutation from other bits of the same HMAC; here, decision and label have separate keys.

Limits: an attacker with a good model of the task can see that a marked answer is wrong, and more confident than
the victim's own errors; answers with labels only, or with few and rounded probabilities, show less. Once the layer
is removed from a stack, repeating a query shows whether it was marked.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from defenses.answers.renormalised import needs_probabilities, probs_of, relabelled
from defenses.defense import Handler, Stage
from defenses.site import Site
from defenses.watermarks.key import WatermarkKey
from defenses.watermarks.ledger import Mark, MarkLedger, WatermarkParameters, encode_rows
from defenses.watermarks.mapping import Mapping, exact, median, medians
from wire import Answer, BadInput, Card, Query, Refused

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dawn:
    """Returns a false label for a keyed share of inputs, the same for every account, and registers these marks.

    Attributes:
        rate: Share of inputs to mark, r_w; fixed for the model's lifetime.
        mapping: The basis of the decision: the ``exact`` row, or which units of the penultimate layer are above
            their ``median``, so that near-duplicates share a decision. Also fixed for the model's lifetime.
        pool: File of rows (npz), such as the victim's training rows, to compute the medians at the first start,
            relative to the server's TOML file, or to the working directory.
    """

    rate: float
    mapping: Literal["exact", "median"] = "exact"
    pool: Path | None = None

    stage: ClassVar[Stage] = Stage.WATERMARK

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 0.5:
            raise BadInput(f"dawn: rate must lie between 0 and 0.5, not {self.rate}")
        if self.mapping == "exact" and self.pool is not None:
            raise BadInput('dawn: pool needs mapping = "median"; the exact mapping takes no pool')

    def bind(self, site: Site) -> Watermark:
        """Returns the layer that marks answers."""
        return Watermark(self, site)

    def disclose(self, card: Card) -> Card:
        """Returns the card; the layer must stand inside top-k, rounding and label-only."""
        return needs_probabilities("dawn", card)


class Watermark:
    """The layer that marks answers."""

    def __init__(self, dawn: Dawn, site: Site) -> None:
        self._dawn, self._site = dawn, site
        self._key, self._ledger = WatermarkKey(site.secret), MarkLedger(site.store, site.model)
        self._parameters: WatermarkParameters | None = None

    async def start(self) -> None:
        """Reads the ledger, or creates it.

        Raises:
            BadInput: The ledger is inconsistent or was made with other parameters.
        """
        await self._begin()
        await self._mapping()
        await self._ledger.read()

    async def __call__(self, query: Query, handle: Handler) -> Answer:
        """Answers a query, and marks the answer.

        Raises:
            Refused: The store is unavailable, or the ledger is inconsistent (503).
        """
        answer = await handle(query)
        try:
            return await self._mark(query, answer)
        except BadInput as fault:
            log.error("model %s refuses queries with marked rows: %s", self._site.model, fault)
            raise Refused("the ledger of this model's marks is inconsistent", status=503) from fault

    async def _mark(self, query: Query, answer: Answer) -> Answer:
        mapping = await self._mapping()
        form, points = await mapping(query.x)  # M_V(x)
        marked = self._key.marked(self._dawn.rate, form, points)  # W_V(x) = 1
        classes = probs_of(answer).shape[1]
        chosen = marked or [0]  # without a marked row, the same work is done for nothing, to take as long
        row_form, rows = encode_rows(query.x[chosen])
        marks = []
        for i, row in zip(chosen, rows, strict=True):
            label = int(answer.labels[i])
            false_label = self._key.false_label(form, points[i], label, classes)  # B_V(x)
            cell = points[i].hex() if self._dawn.mapping == "median" else None
            marks.append(Mark(row_form, row, label, false_label, query.at, cell))
        await self._ledger.add(query.account, marks if marked else [])
        changed = relabelled(answer, np.array(chosen), np.array([mark.told_label for mark in marks]))
        return changed if marked else answer

    async def _mapping(self) -> Mapping:
        parameters = await self._begin()
        if self._dawn.mapping == "exact":
            return exact(None if parameters.grid is None else self._site.grid)
        return median(await self._site.companions.activation_bits(parameters.limits))

    async def _begin(self) -> WatermarkParameters:
        """Creates the ledger unless it exists."""
        if self._parameters is None:
            site, dawn = self._site, self._dawn
            begun, former = await self._ledger.begun(), WatermarkKey(site.former)
            if begun is not None and begun.key == former.commitment:  # by an earlier version
                self._key = former
            earlier = begun is not None and begun.grid is None
            grid = None if earlier or dawn.mapping == "median" else site.grid.name
            wanted = WatermarkParameters(
                site.model, dawn.rate, site.card.classes, self._key.commitment, site.fingerprint, grid=grid
            )
            compute = None if dawn.mapping == "exact" else partial(medians, dawn.pool, dawn.rate, site)
            self._parameters = await self._ledger.begin(wanted, compute)
        return self._parameters
