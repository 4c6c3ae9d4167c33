"""A surrogate of an encoder, which learns its embeddings.

Source: Liu, Jia, Liu, Gong, "StolenEncoder: Stealing Pre-trained Encoders in Self-supervised Learning", CCS 2022,
section 4 (the distance to the embeddings of rows, also of changed ones), and Dziedzic, Dhawan, Kaleem, Guan,
Papernot, "On the Difficulty of Defending Self-Supervised Learning against Model Extraction", ICML 2022, section 3
(squared error); Sha, He, Yu, Backes, Zhang, "Can't Steal? Cont-Steal! Contrastive Stealing Attacks Against Image
Encoders", CVPR 2023, section 4 (a contrastive loss). Several accounts join as in Dubiński et al., "Bucks for
Buckets", NeurIPS 2023, section 4.3: rows that all are asked about tell how one's answers map to another's.

In their symbols: s is the surrogate, t(x) the victim's embedding and x~ a shifted or mirrored x. Rows are drawn
once, and the victim is asked about them as they are, so changes of the surrogate's rows cost nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch.nn import functional

from attacker.asking import NotApplicable, NothingAnswered
from attacker.surrogate import new_seed, numbers
from wire import Array, BadInput, Oracle
from zoo.augment import Augment
from zoo.data.pool import Pool
from zoo.families import encoder
from zoo.network import Network
from zoo.training import Training


@dataclass(frozen=True)
class Encoder:
    """A surrogate of an encoder of images, by squared error or by a contrastive loss (CCS 2022, CVPR 2023).

    Attributes:
        rows: Rows to ask about, of all accounts together.
        loss: What the surrogate learns by: the squared error (``mse``), or which of the embeddings in a batch is
            that of its row (``contrastive``), which leaves their lengths open.
        temperature: Temperature of the contrastive loss.
        overlap: Share of an account's rows that all accounts are asked about, where there are several.
        width: Channels of the surrogate's first block; the second has twice as many.
        epochs: Passes over the answered rows.
        batch: Rows per step.
        lr: Greatest learning rate.
        shift: Most pixels by which the surrogate's rows are shifted in training.
        flip: Whether they are mirrored, each with probability one half.
    """

    rows: int = 5000
    loss: Literal["mse", "contrastive"] = "mse"
    temperature: float = 0.07
    overlap: float = 0.2
    width: int = 16
    epochs: int = 20
    batch: int = 64
    lr: float = 4e-3
    shift: int = 2
    flip: bool = True

    embeddings: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.rows < 2 or self.width < 1 or not (self.temperature > 0 and 0 < self.overlap <= 1):
            raise BadInput(
                f"{self}: expected at least 2 rows, a width of at least 1, a positive temperature, and an overlap "
                f"greater than 0 and at most 1"
            )

    def extract(self, oracle: Oracle, pool: Pool, rng: np.random.Generator) -> Network:
        """Asks about rows of the pool, and trains; see :class:`Extraction`."""
        return self.extract_together([oracle], pool, rng)

    def extract_together(self, oracles: Sequence[Oracle], pool: Pool, rng: np.random.Generator) -> Network:
        """Spreads rows over accounts, maps the answers to those of the first, and trains; see :meth:`extract`."""
        card = oracles[0].card
        if not card.embedding:
            raise NotApplicable("the model answers classes, not embeddings")
        x, told = self.asked(oracles, numbers(pool.x), rng)
        family = encoder.Encoder(self.width, card.embedding)
        surrogate = family.untrained(card, seed=new_seed(rng))
        training = Training(self.epochs, self.batch, self.lr)
        change = Augment(self.shift, self.flip)
        return surrogate.fit(
            x, told, training, seed=new_seed(rng), label="surrogate", augment=change, loss=self.distance
        )

    def asked(self, oracles: Sequence[Oracle], x: Array, rng: np.random.Generator) -> tuple[Array, Array]:
        """Returns rows and embeddings, ``(n, d)``, in the space of the first account's.

        Raises:
            NothingAnswered: An account was answered fewer than two rows, or no others than all were asked about.
        """
        x = x[rng.permutation(len(x))[: self.rows]]
        shared = max(1, int(self.overlap * len(x) / len(oracles))) if len(oracles) > 1 else 0
        common, parts = x[:shared], np.array_split(x[shared:], len(oracles))
        rows: list[Array] = []
        told: list[Array] = []
        for oracle, own in zip(oracles, parts, strict=True):
            answer = oracle.collect(np.concatenate([common, own]))
            if answer.embeddings is None or len(answer) <= max(1, shared):
                raise NothingAnswered(f"too few rows were answered: {oracle.ended or 'there are too few'}")
            found = answer.embeddings
            if told:
                found = mapped(found[:shared], told[0][:shared], found)[shared:]
                rows.append(own[: len(found)])
            else:
                rows.append(np.concatenate([common, own])[: len(found)])
            told.append(found)
        return np.concatenate(rows), np.concatenate(told).astype(np.float32)

    def distance(self, outputs: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
        """Returns the mean loss of a batch of the surrogate's embeddings and the victim's, ``(n, d)`` each."""
        if self.loss == "mse":
            return functional.mse_loss(outputs, told)
        return contrastive(outputs, told, self.temperature)


def contrastive(outputs: torch.Tensor, told: torch.Tensor, temperature: float) -> torch.Tensor:
    """Returns Cont-Steal's loss: s(x~) near t(x), and far from other rows' embeddings, the victim's and its own.

    Args:
        outputs: The surrogate's embeddings of changed rows, ``(n, d)``.
        told: The victim's of the rows, ``(n, d)``.
        temperature: Divides the cosines.
    """
    s, t = functional.normalize(outputs), functional.normalize(told)
    own = (s @ s.T).fill_diagonal_(-torch.inf)
    return functional.cross_entropy(
        torch.cat([s @ t.T, own], 1) / temperature, torch.arange(len(s), device=s.device)
    )


def mapped(known: Array, to: Array, others: Array) -> Array:
    """Maps embeddings into another space, by the linear map of least squared error between known ones.

    Args:
        known: Embeddings in the first space, ``(m, d)``.
        to: Those of the same rows in the second, ``(m, e)``.
        others: Embeddings in the first space, ``(n, d)``.

    Returns:
        They in the second space, ``(n, e)``.
    """
    weights = np.linalg.lstsq(known.astype(np.float64), to.astype(np.float64), rcond=None)[0]
    result: Array = others @ weights
    return result
