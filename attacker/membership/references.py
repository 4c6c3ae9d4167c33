"""Reference models, whose answers tell how sure of a row a model is that saw it, and one that did not.

Sources: Carlini, Chien, Nasr, Song, Terzis, Tramèr, "Membership Inference Attacks From First Principles", IEEE S&P
2022, section V (online: candidates train reference models too; offline: they do not). Shokri et al., IEEE S&P
2017, section V (such models should be trained as the victim is).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
from scipy.stats import ks_2samp

from attacker.asking import needs_probs, some
from attacker.membership.match_policy import blurred
from attacker.membership.signals import log_odds
from attacker.surrogate import class_names, family_named, new_seed
from wire import Answer, Array, BadInput, Card, Labels, Oracle
from zoo.cache import state_folder
from zoo.data.pool import Pool
from zoo.model import Model
from zoo.recipe import Recipe
from zoo.sweep import train_all
from zoo.training import Training

Copies = Callable[[Array], Array]
Signal = Callable[[Answer, Labels], Array]


@dataclass(frozen=True, eq=False)
class Compared:
    """The answers of a victim and of N reference models about the same rows: the population, then the candidates.

    Attributes:
        candidates: Indices of the m candidates that the victim answered, ``(m,)``.
        population: Number of rows p of the population, which did not train the victim.
        classes: Number of classes.
        y: True labels, ``(p + m,)``; then those of the rows about which only the reference models were asked.
        copies: Number of copies q of each row that were asked about.
        victim: The victim's answer, about ``(p + m) q`` rows; the copies of a row are together.
        references: The reference models' answers about all rows of ``y``, blurred as the victim's are.
        member: Which of these rows trained which reference model, ``(N, len(y))`` bool.
    """

    candidates: Array
    population: int
    classes: int
    y: Labels
    copies: int
    victim: Answer
    references: Sequence[Answer]
    member: Array

    def signals(self, of: Signal) -> tuple[Array, Array, Array]:
        """Returns a signal of the victim, ``(p + m, q)``, of the references, ``(N, p + m, q)``, and ``member``."""
        rows = len(self.victim) // self.copies
        y = self.y[:rows].repeat(self.copies)
        answers = [self.victim, *(answer[: len(self.victim)] for answer in self.references)]
        victim, *references = [of(answer, y).reshape(rows, self.copies) for answer in answers]
        return victim, np.stack(references), self.member[:, :rows]

    def of_first_copies(self) -> Compared:
        """Returns the same with a single copy of each row: the first, which is the row itself."""
        victim, *references = (every(answer, self.copies) for answer in (self.victim, *self.references))
        return replace(self, copies=1, victim=victim, references=references)

    def confidences(self) -> tuple[Array, Array, Array]:
        """Returns the logarithms of the odds of the true labels; see :meth:`signals`."""
        return self.signals(lambda answer, y: log_odds(answer, y, self.classes))

    def scores(self, values: Array, candidates: int) -> Array:
        """Returns a score for each of the candidates, ``(n,)``, out of values of ``(p + m,)`` rows."""
        scores = np.full(candidates, np.nan)
        scores[self.candidates] = values[self.population :]
        return scores


@dataclass(frozen=True)
class Referenced:
    """A membership attack that compares the victim's answers with those of reference models.

    With the same seed and settings, all attacks have the same reference models, which are trained once.

    Attributes:
        references: Number of reference models, each trained on a random half of the rows. They come in pairs: the
            second is trained on the other half.
        online: Whether candidates are among the rows that train reference models; if not, only the shadow pool is,
            and the same models serve for other candidates.
        population: Rows of the shadow pool to query, of which the victim has seen none; at most for a quarter of
            the budget.
        family: Family of the reference models: softmax, logistic, mlp, cnn, resnet or torchvision.
        epochs: Passes of a reference model over its rows; of several numbers, the one with which its confidences
            about the population are most like the victim's. Labels do not tell them: then the greatest. Numbers
            that double are too far apart for attack models: models trained too long are too sure of their members.
        lr: Greatest learning rate of the reference models (Adam, one cycle).
        weight_decay: L2 penalty on the weights of the reference models.
        jobs: Number of processes that train reference models.
        executor: Where these run: processes (of this machine), ray, ray://HOST:PORT, slurm or slurm://PARTITION.
        state: Folder that keeps reference models for later runs; default: MLAAS_STATE, or ./state.
    """

    labels_suffice: ClassVar[bool] = False  # whether it needs no confidences

    references: int = 16
    online: bool = True
    population: int = 1000
    family: str = "cnn"
    epochs: tuple[int, ...] = (4, 8, 16, 32)
    lr: float = 4e-3
    weight_decay: float = 0.0
    jobs: int = 1
    executor: str = "processes"
    state: Path | None = None

    @property
    def threshold(self) -> float | None:
        """The score above which a row is called a member; None: such an attack only ranks."""
        return None

    def __post_init__(self) -> None:
        if min(self.references, self.population, self.jobs, *self.epochs) < 1 or not self.epochs:
            raise BadInput(f"{self}: references, population, jobs and epochs must be at least 1")

    def infer(self, oracle: Oracle, x: Array, y: Labels, shadow: Pool, rng: np.random.Generator) -> Array:
        """Returns the value of each candidate among the answers; see :class:`Membership`."""
        if not self.labels_suffice:
            needs_probs(oracle.card)
        population = None if oracle.card.tells_probs else 0  # labels do not tell how long the victim was trained
        copies = partial(self.copied, oracle.card)
        found = self.compare(oracle, x, y, shadow, rng, copies=copies, population=population)
        return found.scores(self.values(found), len(x))

    def copied(self, card: Card, rows: Array) -> Array:
        """Returns the copies of rows to ask about, ``(n q, *input_shape)``; by default, the rows themselves."""
        return rows

    def values(self, found: Compared) -> Array:
        """Returns a value for each row of the population and each answered candidate, ``(p + m,)``."""
        raise NotImplementedError

    def compare(
        self,
        oracle: Oracle,
        x: Array,
        y: Labels,
        shadow: Pool,
        rng: np.random.Generator,
        *,
        copies: Copies = np.asarray,
        population: int | None = None,
        further: bool = False,
    ) -> Compared:
        """Asks the victim about the candidates in random order, then about the population, and trains references.

        Args:
            oracle: The victim's oracle.
            x: Candidates, ``(n, *input_shape)``.
            y: Their true labels, ``(n,)``.
            shadow: Labelled rows that the victim has not seen.
            rng: Source of all randomness; the reference models depend on its first draws alone.
            copies: Makes ``(n q, *input_shape)`` rows to ask about of ``(n, *input_shape)``.
            population: As in the class, or another number of rows, such as 0.
            further: Whether to ask the references about the other rows of the shadow pool too.

        Raises:
            BadInput: The shadow pool has no labels, or too few rows.
            NothingAnswered: Not a single candidate was answered.
        """
        if shadow.y is None or len(shadow) < 2:
            raise BadInput(f"{type(self).__name__}: needs a shadow pool of 2 labelled rows, not {len(shadow)}")
        state_folder(self.state).mkdir(parents=True, exist_ok=True)
        names = class_names(oracle.card)
        rows = Pool(np.concatenate([shadow.x, x]), np.concatenate([shadow.y, y]), names)
        training = len(rows) if self.online else len(shadow)
        member = np.zeros((self.references, len(rows)), bool)
        member[:, :training], seeds = halves(self.references, training, rng)
        order, q = rng.permutation(len(shadow)), len(copies(x[:1]))
        most = len(shadow) if oracle.left is None else oracle.left // (4 * q)  # candidates need the budget too
        first = order[: min(self.population if population is None else population, most)]
        asked = len(shadow) + rng.permutation(len(x))
        room = None if oracle.left is None else oracle.left - q * len(first)
        found = some(oracle, copies(rows.x[asked])[:room])  # first, since an alarm may end the answers
        asked = asked[: len(found) // q]
        heard = oracle.collect(copies(shadow.x[first])) if len(first) else Answer.join([])
        first = first[: len(heard) // q]
        heard = heard[: len(first) * q]
        models = self._models(oracle.card, rows, member, seeds, first, every(heard, q), rng)
        columns = np.concatenate([first, asked, order[len(first) :] if further else order[:0]])
        victim, everything = Answer.join([heard, found[: len(asked) * q]]), copies(rows.x[columns])
        told = [blurred(model.predict(everything), oracle.card, victim, rng) for model in models]
        assert rows.y is not None
        labels, mask = rows.y[columns], member[:, columns]
        return Compared(asked - len(shadow), len(first), len(names), labels, q, victim, told, mask)

    def _models(
        self,
        card: Card,
        rows: Pool,
        member: Array,
        seeds: Sequence[int],
        population: Array,
        heard: Answer,
        rng: np.random.Generator,
    ) -> list[Model]:
        """Trains the models for as many epochs as make the first one as sure of unseen rows as the victim is."""
        choices = [Training(epochs, lr=self.lr, weight_decay=self.weight_decay) for epochs in self.epochs]
        if heard.probs is None:
            choices = [max(choices, key=lambda training: training.epochs)]
        if len(choices) > 1:
            unseen = ~member[0, population]
            assert rows.y is not None
            asked, classes = population[unseen], len(rows.class_names)
            theirs = log_odds(heard, rows.y[population], classes)
            distances = []
            for training in choices:
                (model,) = self._train(rows, member[:1], seeds[:1], training)
                own = blurred(model.predict(rows.x[asked]), card, heard, rng)
                distances.append(ks_2samp(theirs, log_odds(own, rows.y[asked], classes)).statistic)
            choices = [choices[int(np.argmin(distances))]]
        return self._train(rows, member, seeds, choices[0])

    def _train(self, rows: Pool, member: Array, seeds: Sequence[int], training: Training) -> list[Model]:
        recipes = [Recipe(family_named(self.family), training, seed) for seed in seeds]
        theirs = [np.flatnonzero(chosen) for chosen in member]
        return train_all(
            recipes,
            rows,
            theirs,
            state_folder(self.state),
            jobs=self.jobs,
            executor=self.executor,
            label="references",
        )


def halves(count: int, rows: int, rng: np.random.Generator) -> tuple[Array, list[int]]:
    """Draws random halves of rows, each followed by the other half, with seeds; the first do not depend on count.

    Returns:
        The rows of each model, ``(count, rows)`` bool, and its seed.
    """
    drawn: list[Array] = []
    seeds: list[int] = []
    while len(drawn) < count:
        half = rng.permutation(rows) < rows // 2
        drawn += [half, ~half]
        seeds += [new_seed(rng), new_seed(rng)]
    return np.stack(drawn[:count]), seeds[:count]


def every(answer: Answer, copies: int) -> Answer:
    """Returns the answer about the first copy of each row."""
    return answer[::copies]
