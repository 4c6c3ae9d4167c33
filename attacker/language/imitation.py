"""An imitation of a translator: it learns the translations that the API tells.

Source: Wallace, Stern, Song, "Imitation Attacks and Defenses for Black-box Machine Translation Systems", EMNLP
2020, section 3: texts of one language alone are sent, and a new model learns pairs of these and the answers. It
has tokens of its own, learnt from the same pairs. Here long texts are left out, and translations that were cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from attacker.asking import NothingAnswered
from wire import BadInput, Refused
from wire.completions import CompletionOracle, Decoding
from zoo.language.encoder_decoder import EncoderDecoder
from zoo.language.translator import Translator, paired
from zoo.training import Training


@dataclass(frozen=True)
class Imitation:
    """A translator that learns what another one tells (Wallace et al., EMNLP 2020).

    Attributes:
        sentences: Texts to have translated.
        longest: Most characters of such a text.
        length: Most tokens of its translation.
        at_once: Texts in a request.
        vocabulary: Number of the imitation's tokens.
        context: Most tokens of a text and its translation, together.
        encoder: Number of blocks of its encoder.
        layers: Number of blocks of its decoder.
        heads: Number of its attention heads.
        width: Its width.
        epochs: Passes over the pairs.
        batch: Pairs per step.
        lr: Greatest learning rate.
    """

    sentences: int = 5000
    longest: int = 180
    length: int = 64
    at_once: int = 64
    vocabulary: int = 3000
    context: int = 128
    encoder: int = 2
    layers: int = 2
    heads: int = 4
    width: int = 128
    epochs: int = 10
    batch: int = 32
    lr: float = 3e-3

    def __post_init__(self) -> None:
        if min(self.sentences, self.longest, self.length, self.at_once) < 1:
            raise BadInput(f"{self}: sentences, longest, length and at_once must be at least 1")

    def steal(self, oracle: CompletionOracle, texts: Sequence[str], rng: np.random.Generator) -> Translator:
        """Has texts translated, and trains an imitation on the answers.

        Raises:
            NothingAnswered: No translation was told to its end.
            Refused: The victim takes none of the first texts.
        """
        return self.taught(self.bought(oracle, texts), seed=int(rng.integers(2**31)))

    def bought(self, oracle: CompletionOracle, texts: Sequence[str]) -> list[str]:
        """Returns pairs of texts and the likeliest translations, as many as are wanted and answered.

        Raises:
            Refused: The victim takes none of the first texts.
        """
        wanted = [text for text in texts if len(text) <= self.longest][: self.sentences]
        pairs: list[str] = []
        for at in range(0, len(wanted), self.at_once):
            pairs += self._answered(oracle, wanted[at : at + self.at_once])
            if oracle.ended is not None and not _too_long(oracle):
                break
            if oracle.ended is not None and not pairs:
                raise oracle.ended
        return pairs

    def _answered(self, oracle: CompletionOracle, texts: Sequence[str]) -> list[str]:
        """Asks about texts; where one is longer than the victim takes, about halves of them."""
        told = oracle.collect(texts, Decoding(self.length, temperature=0))
        if _too_long(oracle) and len(texts) > 1:
            half = len(texts) // 2
            return self._answered(oracle, texts[:half]) + self._answered(oracle, texts[half:])
        whole = [(text, one.text) for text, (one,) in zip(texts, told, strict=False) if one.finish == "stop"]
        return paired(*zip(*whole, strict=True)) if whole else []

    def taught(self, pairs: Sequence[str], *, seed: int, label: str = "") -> Translator:
        """Trains an imitation on pairs.

        Raises:
            NothingAnswered: There are none.
        """
        if not pairs:
            raise NothingAnswered("no translation was told to its end")
        sizes = EncoderDecoder(
            self.vocabulary, self.context, self.layers, self.heads, self.width, encoder=self.encoder
        )
        training = Training(self.epochs, batch=self.batch, lr=self.lr)
        return Translator.learnt(pairs, sizes, training, seed=seed, label=label or "imitation")


def _too_long(oracle: CompletionOracle) -> bool:
    return isinstance(oracle.ended, Refused) and oracle.ended.status == 400
