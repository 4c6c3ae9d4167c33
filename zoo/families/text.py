"""A classifier of texts: words in, class out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import torch

from wire import Array, BadInput, Feature
from zoo.data.pool import Pool
from zoo.families.fitted import Form, Learnt, check, table

_FLOAT = torch.float64


@dataclass(frozen=True)
class Tfidf:
    """Logistic regression over the words of a text and their neighbours, weighed by TF-IDF.

    Source: Salton and Buckley, "Term-Weighting Approaches in Automatic Text Retrieval", Information Processing
    and Management 24, 1988; for pairs of words Wang and Manning, "Baselines and Bigrams: Simple, Good Sentiment
    and Topic Classification", ACL 2012. Fitted by scikit-learn; counts are taken by their logarithm.

    Attributes:
        words: Most words that follow one another and count as one term.
        c: Inverse strength of the L2 penalty on the weights.
    """

    words: int = 2
    c: float = 4.0

    def __post_init__(self) -> None:
        if self.words < 1 or not 0 < self.c < math.inf:
            raise BadInput(f"{self}: words must be at least 1, and c greater than 0 and finite")

    def learn(self, pool: Pool, seed: int) -> Learnt:
        """Learns the terms and their weights; nothing is random.

        Raises:
            BadInput: There are no words in the texts, or a class has no text.
        """
        from sklearn.linear_model import LogisticRegression

        assert pool.y is not None
        table(pool)
        counts = self.counts()
        try:
            x = counts.fit_transform(pool.x)
        except ValueError as error:  # "empty vocabulary"
            raise BadInput(f"there is nothing to learn in these texts: {error}") from None
        model = LogisticRegression(C=self.c, max_iter=1000).fit(x, pool.y)
        weight, bias = model.coef_, model.intercept_
        if len(pool.class_names) == 2:  # one weight vector, of the second class
            weight, bias = np.concatenate([0 * weight, weight]), np.concatenate([0 * bias, bias])
        terms = orjson.dumps(counts.get_feature_names_out().tolist())
        return {
            "terms": torch.tensor(list(terms), dtype=torch.uint8),
            **{
                name: torch.from_numpy(array).to(_FLOAT)
                for name, array in (("idf", counts.idf_), ("weight", weight), ("bias", bias))
            },
        }

    def counts(self, terms: list[str] | None = None) -> Any:
        """Returns what makes rows of weighed terms of texts; of these terms, if they are known."""
        from sklearn.feature_extraction.text import TfidfVectorizer  # here, since importing it takes a second

        return TfidfVectorizer(ngram_range=(1, self.words), sublinear_tf=True, vocabulary=terms)


class Text:
    """A model of a text family; a :class:`~zoo.classifier.Classifier` whose rows are strings.

    Beside these it has the attributes that say of a :class:`~zoo.network.Network` what it takes.

    Attributes:
        family: The family with its fields.
        class_names: Names of the classes.
        learnt: What it learnt.
    """

    input_shape: tuple[int, ...] = ()
    low: float | None = None
    high: float | None = None
    dtype = "BYTES"
    missing = False
    features: tuple[Feature, ...] = ()
    training = None

    def __init__(self, family: Tfidf, class_names: tuple[str, ...], learnt: Learnt) -> None:
        """Takes what a family learnt.

        Raises:
            ValueError: It is not what such a family learns.
        """
        k = len(class_names)
        forms: dict[str, Form] = {
            "terms": (torch.uint8, ("bytes",)),
            "idf": (_FLOAT, ("terms",)),
            "weight": (_FLOAT, (k, "terms")),
            "bias": (_FLOAT, (k,)),
        }
        check(learnt, forms)
        try:
            terms = orjson.loads(learnt["terms"].numpy().tobytes())
        except orjson.JSONDecodeError as error:
            raise ValueError(f"tensor terms is no JSON: {error}") from None
        count = len(learnt["idf"])
        if not isinstance(terms, list) or {*map(type, terms)} != {str} or not len({*terms}) == len(terms) == count:
            raise ValueError(f"tensor terms must be a list of {count} different strings")
        self.family, self.class_names, self.learnt = family, class_names, learnt
        self._counts = family.counts(terms)
        self._counts.idf_ = learnt["idf"].numpy()
        self._weight, self._bias = learnt["weight"].numpy(), learnt["bias"].numpy()

    @property
    def classes(self) -> int:
        """Number of classes k."""
        return len(self.class_names)

    def predict(self, x: Array) -> Array:
        """Returns class probabilities, ``(n, k)`` float32, of texts ``x``, ``(n,)`` of strings."""
        if not len(x):
            return np.empty((0, self.classes), np.float32)
        logits = self._counts.transform(x) @ self._weight.T + self._bias
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        probs: Array = (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)
        return probs
