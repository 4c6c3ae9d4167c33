"""T-RND: the attack of the PRADA paper.

Source: Juuti, Szyller, Marchal, Asokan, "PRADA: Protecting Against DNN Model Stealing Attacks", EuroS&P 2019,
algorithm 1, with its syntheses T-RND I-FGSM, N I-FGSM and COLOR, and its CV-SEARCH of hyper-parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from attacker.asking import some
from attacker.surrogate import family_named, new_seed, numbers, own_model
from wire import Array, BadInput, Card, Labels, Oracle
from wire.fits import bounds
from zoo.data.pool import Pool
from zoo.network import Network
from zoo.training import Training


@dataclass(frozen=True)
class TRnd:
    """PRADA's attack: doubles a few seeds by the surrogate's steps towards random other classes (EuroS&P 2019).

    Cross-validation on the answered rows selects the learning rate and the number of epochs. In each round, the
    surrogate is trained on the rows that the victim has labelled so far, and each of these rows gives a new one:
    another class is drawn, and the row takes ``inner`` steps of ``step / inner`` along the sign of the gradient of
    that class's probability. All rounds together query ``seeds * 2^rounds`` rows; if the budget ends earlier, the
    last round queries a random part of its new rows.

    The paper compares two other syntheses. The non-targeted one steps away from the row's own class (with one
    inner step, N FGSM; with several, N I-FGSM). COLOR adds to each channel of a row one random number, up to
    ``step``.

    Differences from the paper: it searches on the seeds alone, which ``--search-every 0`` does, and epochs that
    suit a hundred rows are too many for a hundred thousand. Here, the search is repeated as the set grows, on at
    most ``search_rows`` of its rows, and the epochs are scaled to the whole set so that the number of steps stays.
    It searches by Bayesian optimisation, this implementation by a grid; its seeds are ten natural rows of each
    class, here they are drawn from the pool, whose labels an attacker does not have. The paper does not specify
    two points: here, training continues from the last round's weights, and the surrogate learns from labels alone.

    ``--answers parent`` is a control, as JbDA's: it queries the seeds alone, and gives each new row the label of
    the row that it came from.

    Attributes:
        seeds: Number of rows of the pool to begin with.
        rounds: Number of doublings of the labelled set.
        step: Maximum change of a feature, in units of a feature; the larger of the paper's two values is 64/255.
        inner: Number of steps over which this change is divided.
        crafter: How new rows are made: towards a random other class, away from the row's own, or by colour.
        answers: Whether the oracle labels the new rows, or each takes its parent's label without being asked.
        family: Family of the surrogate: softmax, logistic, mlp, cnn, resnet or torchvision.
        lrs: Learning rates of Adam to try.
        epochs: Numbers of epochs to try, in increasing order.
        folds: Number of folds of the rows in cross-validation.
        search_every: Number of rounds after which the search is repeated; 0: it is not.
        search_rows: Most rows of a search.
        batch: Rows per training step.
    """

    seeds: int = 100
    rounds: int = 10
    step: float = 64 / 255
    inner: int = 11
    crafter: Literal["t_rnd", "non_targeted", "color"] = "t_rnd"
    answers: Literal["oracle", "parent"] = "oracle"
    family: str = "cnn"
    lrs: tuple[float, ...] = (1e-4, 1e-3, 1e-2)
    epochs: tuple[int, ...] = (10, 20, 40, 80, 160, 320)
    folds: int = 5
    search_every: int = 4
    search_rows: int = 400
    batch: int = 64

    def __post_init__(self) -> None:
        if self.seeds < 1 or self.rounds < 0 or self.inner < 1 or self.folds < 2:
            raise BadInput(f"{self}: seeds and inner must be at least 1, rounds at least 0 and folds at least 2")
        if self.search_every < 0 or self.search_rows < 2:
            raise BadInput(f"{self}: search_every must be at least 0, and search_rows at least 2")
        rising = all(a < b for a, b in pairwise((0, *self.epochs)))
        if not self.lrs or not self.epochs or not rising:
            raise BadInput(f"{self}: lrs must not be empty, and epochs must be increasing numbers of at least 1")

    def extract(self, oracle: Oracle, pool: Pool, rng: np.random.Generator) -> Network:
        """Repeats training and synthesis, with parameters that it selects; see :class:`Extraction`."""
        x = numbers(pool.x)[rng.permutation(len(pool))[: self.seeds]]
        labels = some(oracle, x).labels
        x = x[: len(labels)]
        training = self._search(oracle.card, x, labels, rng)
        surrogate = own_model(oracle.card, family_named(self.family), seed=new_seed(rng))
        for rho in range(self.rounds + 1):
            if rho and self.search_every and rho % self.search_every == 0:
                training = self._search(oracle.card, x, labels, rng)
            surrogate.fit(x, labels, training, seed=new_seed(rng), label=f"round {rho}")
            if oracle.ended is not None or rho == self.rounds:
                break
            order = rng.permutation(len(x))
            new = self._synthesise(surrogate, x, labels, rng, bounds(oracle.card))[order]
            answered = oracle.collect(new).labels if self.answers == "oracle" else labels[order]
            if not len(answered):
                break
            x, labels = np.concatenate([x, new[: len(answered)]]), np.concatenate([labels, answered])
        return surrogate

    def _search(self, card: Card, x: Array, labels: Labels, rng: np.random.Generator) -> Training:
        """Returns the training parameters that predict held-out rows best; the fewest epochs among ties."""
        order = rng.permutation(len(x))[: self.search_rows]
        parts = np.array_split(order, min(self.folds, len(order)))
        hits = np.zeros((len(self.epochs), len(self.lrs)), np.int64)
        for out in parts if len(parts) > 1 else ():
            rest = np.setdiff1d(order, out)
            for column, lr in enumerate(self.lrs):
                network = own_model(card, family_named(self.family), seed=new_seed(rng))
                for row, (before, epochs) in enumerate(pairwise((0, *self.epochs))):
                    training = self._training(epochs - before, lr)
                    network.fit(x[rest], labels[rest], training, seed=new_seed(rng), label="search")
                    hits[row, column] += (network.predict(x[out]).argmax(axis=1) == labels[out]).sum()
        best, of = divmod(int(hits.argmax()), len(self.lrs))
        return self._training(max(1, round(self.epochs[best] * len(order) / len(x))), self.lrs[of])

    def _training(self, epochs: int, lr: float) -> Training:
        return Training(epochs, self.batch, lr, schedule="constant")

    def _synthesise(
        self,
        surrogate: Network,
        x: Array,
        labels: Labels,
        rng: np.random.Generator,
        span: tuple[float, float],
    ) -> Array:
        """Makes one new row, ``(n, *input_shape)``, from each labelled row."""
        if self.crafter == "color":
            shifts = rng.uniform(-self.step, self.step, (*x.shape[:2], *[1] * (x.ndim - 2)))
            shifted: Array = np.clip(x + shifts, *span).astype(np.float32)
            return shifted
        targeted = self.crafter == "t_rnd"
        others = (labels + rng.integers(1, surrogate.classes, len(labels))) % surrogate.classes
        aim, step = (others, self.step) if targeted else (labels, -self.step)
        for _ in range(self.inner):
            towards = np.sign(surrogate.gradient(x, aim, "log_probability"))
            x = np.clip(x + np.float32(step / self.inner) * towards, *span).astype(np.float32)
        return x
