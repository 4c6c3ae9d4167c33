"""Random words: a text classifier is stolen by texts that mean nothing.

Source: Krishna, Tomar, Parikh, Papernot, Iyyer, "Thieves on Sesame Street! Model Extraction of BERT-based APIs",
ICLR 2020, section 3 (RANDOM: words drawn uniformly from the vocabulary of a corpus). Lengths are drawn from the
corpus too. Their victims and surrogates are fine-tuned BERT models; here the surrogate learns from labels alone.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from attacker.asking import NotApplicable, some
from attacker.extraction.targets import targets
from attacker.surrogate import class_names, fitted, new_seed
from wire import Array, BadInput, Oracle
from zoo.data.pool import Pool, texts
from zoo.families import FAMILIES
from zoo.model import Model


@dataclass(frozen=True)
class RandomWords:
    """Random words: a surrogate learns the labels of texts of words that were drawn at random (ICLR 2020).

    Attributes:
        rows: Texts to query.
        words: How many of the pool's most frequent words are drawn from.
        family: Family of the surrogate, which takes texts: tfidf.
    """

    rows: int = 1000
    words: int = 10_000
    family: str = "tfidf"

    def __post_init__(self) -> None:
        if self.rows < 1 or self.words < 2:
            raise BadInput(f"{self}: expected at least one row and two words")
        if self.family not in FAMILIES or not FAMILIES[self.family].texts:
            kinds = ", ".join(name for name, family in FAMILIES.items() if family.texts)
            raise BadInput(f"random_words: family {self.family!r} does not take texts; expected {kinds}")

    def extract(self, oracle: Oracle, pool: Pool, rng: np.random.Generator) -> Model:
        """Makes texts of the pool's words, and trains on their labels; see :class:`Extraction`.

        Raises:
            NotApplicable: The victim's rows are not texts.
            BadInput: The pool's are not.
        """
        if oracle.card.dtype != "BYTES":
            raise NotApplicable("its rows are texts, and the model takes none")
        x = drawn(pool.x, self.rows, self.words, rng)
        y = targets(some(oracle, x), len(class_names(oracle.card)))
        return fitted(oracle.card, self.family, x[: len(y)], y, seed=new_seed(rng), label="surrogate")


def drawn(corpus: Array, rows: int, words: int, rng: np.random.Generator) -> Array:
    """Returns texts, ``(rows,)``, of words that are drawn uniformly, each as long as a text of the corpus.

    Raises:
        BadInput: The corpus has fewer than two words.
    """
    if corpus.dtype != object:
        raise BadInput("random_words: the pool's rows are no texts; expected texts, whose words are drawn")
    known = [text.split() for text in corpus.tolist()]
    counts = Counter(word for text in known for word in text)
    if len(counts) < 2:
        raise BadInput(f"random_words: the pool has {len(counts)} words; expected texts, whose words are drawn")
    vocabulary = np.array([word for word, _ in counts.most_common(words)], object)
    lengths = rng.choice([len(text) for text in known if text], rows)
    return texts([" ".join(rng.choice(vocabulary, length)) for length in lengths])
