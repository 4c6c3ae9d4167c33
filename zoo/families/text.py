"""A text classifier over TF-IDF features."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import orjson
import torch

from wire import Array, BadInput, Card
from zoo.data.pool import Pool
from zoo.families.family import Family
from zoo.families.fitted import flat
from zoo.model import Model
from zoo.network import Network
from zoo.tensors import Form, Tensors, check
from zoo.training import Training

MOST_WORDS = 10

_FLOAT = torch.float64


@dataclass(frozen=True)
class Tfidf(Family):
    """Logistic regression over the TF-IDF weights of a text's n-grams.

    Source: Salton and Buckley, "Term-Weighting Approaches in Automatic Text Retrieval", Information Processing
    and Management 24, 1988; for bigrams, Wang and Manning, "Baselines and Bigrams: Simple, Good Sentiment and
    Topic Classification", ACL 2012. Fitted by scikit-learn; term frequencies are scaled logarithmically.

    Attributes:
        words: Maximum length of an n-gram, in words.
        c: Inverse strength of the L2 penalty on the weights.
    """

    texts: ClassVar[bool] = True
    tabular: ClassVar[bool] = False

    words: int = 2
    c: float = 4.0

    def __post_init__(self) -> None:
        if not 1 <= self.words <= MOST_WORDS or not 0 < self.c < math.inf:
            raise BadInput(
                f"{self}: words must lie between 1 and {MOST_WORDS}, and c be greater than 0 and finite"
            )

    def train(self, pool: Pool, training: Training, seed: int, *, device: str | None, label: str) -> Text:
        """Learns the terms and their weights deterministically; see :class:`Family`.

        Raises:
            BadInput: The texts contain no words, or a class has no texts.
        """
        from sklearn.linear_model import LogisticRegression

        assert pool.y is not None
        flat(pool)
        counts = self.counts()
        try:
            x = counts.fit_transform(pool.x)
        except ValueError as error:  # "empty vocabulary"
            raise BadInput(f"nothing can be learnt from these texts: {error}") from None
        model = LogisticRegression(C=self.c, max_iter=1000).fit(x, pool.y)
        weight, bias = model.coef_, model.intercept_
        if len(pool.class_names) == 2:  # scikit-learn has one weight vector, for the second class
            weight, bias = np.concatenate([0 * weight, weight]), np.concatenate([0 * bias, bias])
        terms = orjson.dumps(counts.get_feature_names_out().tolist())
        fitted = {"idf": counts.idf_, "weight": weight, "bias": bias}
        tensors = {name: torch.from_numpy(array).to(_FLOAT) for name, array in fitted.items()}
        return Text(self, pool.card(), {"terms": torch.tensor(list(terms), dtype=torch.uint8), **tensors})

    def restore(self, card: Card, tensors: Tensors, *, device: str | None) -> Text:
        """Returns a trained model; see :class:`Family`."""
        return Text(self, card, tensors)

    def counts(self, terms: list[str] | None = None) -> Any:
        """Returns the vectorizer from texts to weighted terms, with a fixed vocabulary if terms are given."""
        from sklearn.feature_extraction.text import TfidfVectorizer  # deferred: importing it takes a second

        return TfidfVectorizer(ngram_range=(1, self.words), sublinear_tf=True, vocabulary=terms)


class Text(Model):
    """A text model: a linear map from weighted terms to logits."""

    def __init__(self, family: Tfidf, card: Card, tensors: Tensors) -> None:
        """Makes a model from its terms and their weights.

        Raises:
            ValueError: The tensors do not fit the family or the card.
        """
        forms: dict[str, Form] = {
            "terms": (torch.uint8, ("bytes",)),
            "idf": (_FLOAT, ("terms",)),
            "weight": (_FLOAT, (card.classes, "terms")),
            "bias": (_FLOAT, (card.classes,)),
        }
        check(tensors, forms)
        try:
            terms = orjson.loads(tensors["terms"].numpy().tobytes())
        except orjson.JSONDecodeError as error:
            raise ValueError(f"tensor terms is not JSON: {error}") from None
        count = len(tensors["idf"])
        if not isinstance(terms, list) or {*map(type, terms)} != {str} or not len({*terms}) == len(terms) == count:
            raise ValueError(f"tensor terms must be a list of {count} different strings")
        self.family, self._card, self._tensors = family, card, tensors
        self._counts = family.counts(terms)
        self._counts.idf_ = tensors["idf"].numpy()
        self._weight, self._bias = tensors["weight"].numpy(), tensors["bias"].numpy()

    def card(self) -> Card:
        """Returns the model's card."""
        return self._card

    def tensors(self) -> Tensors:
        """Returns the terms, as bytes of JSON, and their weights."""
        return self._tensors

    def network(self) -> Network:
        """Raises BadInput: this model predicts with scikit-learn and numpy, not with torch."""
        raise BadInput("a text model is not a network: it has no layers, gradients or checkpoints")

    def predict(self, x: Array) -> Array:
        """Returns class probabilities, ``(n, k)`` float32, of texts ``x``, ``(n,)`` str objects."""
        if not len(x):
            return np.empty((0, self._card.classes), np.float32)
        logits = self._counts.transform(x) @ self._weight.T + self._bias
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        probs: Array = (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)
        return probs
