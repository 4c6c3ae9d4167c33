"""The court's schemes without a mark: twin test, own errors, conferrable examples, dataset inference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from experiments.claims.independent import labels_of
from experiments.court.court import NEVER, Accusation, Court, Scheme, Verdict, verdict
from experiments.studies.evasions import Predict
from owner.conferrable import Conferrable, Models
from owner.dataset_inference.by_weights import InferenceByWeights
from owner.dataset_inference.dataset_inference import DatasetInference
from owner.dataset_inference.embeddings import Images
from owner.one_more import beyond
from owner.own_errors import OwnErrors, Rows, score
from owner.twin_test import Ranking, TwinTest, dispute, ranking, similarity
from wire import Array, BadInput, Labels
from zoo.data import Pool
from zoo.network import Network

RNG = np.random.default_rng(0)  # of accusations that draw nothing
INFERENCE = DatasetInference(fit_images=200, test_images=40, starts=3)
WEIGHED = InferenceByWeights(fit_images=60, test_images=20, steps=200)
FINGERPRINT = Conferrable(models=4, epochs=8)


class Queries:
    """The queries of a twin test, and the similarities of the latest suspect."""

    def __init__(self, x: Array, models: list[Network]) -> None:
        """Asks the models."""
        self.x, self.probs = x, np.stack([model.predict(x) for model in models])
        self._latest: tuple[Predict, Array] | None = None

    def similarities(self, predict: Predict) -> Array:
        """Returns the similarity of each model to a suspect."""
        if self._latest is None or self._latest[0] != predict:
            found = similarity(self.probs, predict(self.x).argmax(axis=1), TwinTest().ridge)
            self._latest = predict, found
        return self._latest[1]


def twin_test(court: Court) -> Scheme:
    """This project: the victim among exchangeable twins."""
    test, reference, models = TwinTest(copies=True), court.held["reference"], court.twins
    labels = np.stack([labels_of(model, reference.x) for model in models])
    disputed = dispute(labels, court.card.classes)
    chosen = np.argsort(-disputed, kind="stable")[: min(test.rows, np.count_nonzero(disputed))]
    votes = np.mean([labels_of(model, reference.x) == labels[0] for model in court.own], axis=0)
    theirs = np.mean(labels[1:] == labels[0], axis=0)
    liked = np.argsort(theirs - votes, kind="stable")[: test.rows]

    def accusing(asked: Queries, victim: int, commitments: int) -> Accusation:
        def place(predict: Predict) -> Ranking:
            return ranking(asked.similarities(predict), victim)

        limit = test.line(place(model.predict).z for model in court.judges)

        def accuse(predict: Predict) -> Verdict:
            found = place(predict)
            first, judged = found.rank == 1, found.z > limit
            published, counted = (first and n * found.p_t <= test.alpha for n in (1, commitments))
            return verdict(published, published and judged, counted and judged)

        return accuse

    by_rule, by_him = (Queries(test.queries(reference.x[rows], court.card), models) for rows in (chosen, liked))
    zs = np.mean(
        [[ranking(by_rule.similarities(own.predict), n).z for n in range(len(models))] for own in court.own],
        axis=0,
    )
    return Scheme(
        "twin test",
        "this project",
        accusing(by_rule, 0, 1),
        accusing(by_him, 0, 1),
        accusing(by_rule, int(np.argmax(zs)), len(models)),
        lambda: court.suspects(court.victim),
        queries=len(by_rule.x),
        shown=0,
        cost=0.0,
    )


def own_errors(court: Court) -> Scheme:
    """The victim's errors that other models do not make."""
    test, reference = OwnErrors(), court.held["reference"]
    judges = court.oracles(court.judges)

    def published(x: Array, wrong: Labels, models: list[Network]) -> Callable[[Predict], bool]:
        """The contest's rule: the models that chose the rows also calibrate the score."""
        others = np.stack([logits(model.predict(x), wrong) for model in models])
        scores = [score(one, np.delete(others, place, axis=0)) for place, one in enumerate(others)]

        def accuse(predict: Predict) -> bool:
            own = score(logits(predict(x), wrong), others)
            return beyond(own, scores).p <= test.alpha

        return accuse

    def accusing(victim: Network, rows: Pool, compared: list[Network], commitments: int) -> Accusation:
        right = np.mean([labels_of(model, rows.x) == rows.y for model in compared], axis=0) >= test.right
        wrong = labels_of(victim, rows.x)
        chosen = np.flatnonzero((wrong != rows.y) & (right | (compared is court.poor)))[: test.rows]
        if len(chosen) < 2:
            return lambda predict: NEVER
        plain = published(rows.x[chosen], wrong[chosen], compared)
        try:
            study = test.prepare(Rows(court.oracle(victim.predict), rows, judges), RNG)
        except BadInput:  # the judge's models make these errors too
            return lambda predict: verdict(plain(predict), False, False)

        def accuse(predict: Predict) -> Verdict:
            p = test.accuse(court.oracle(predict), study, RNG).p_value
            return verdict(plain(predict), p <= test.alpha, commitments * p <= test.alpha)

        return accuse

    wrong = labels_of(court.victim, reference.x)
    mine = np.mean([labels_of(model, reference.x) == wrong for model in court.own], axis=0)
    shared = reference.take(np.flatnonzero((wrong != reference.y) & (mine >= 0.8)))
    siding = [
        np.mean([_siding(model, labels_of(twin, reference.x), reference) for model in court.own])
        for twin in court.twins
    ]
    lucky = court.twins[int(np.argmax(siding))]
    return Scheme(
        "own errors",
        "Godinot et al. 2025; a contest of 2026",
        accusing(court.victim, reference, court.own, 1),
        accusing(court.victim, shared, court.poor, 1),
        accusing(lucky, reference, court.own, len(court.twins)),
        lambda: court.suspects(court.victim),
        queries=test.rows,
        shown=0,
        cost=0.0,
    )


def conferrable(court: Court) -> Scheme:
    """Lukas et al. 2021: adversarial examples on which only copies agree with the victim."""
    test, reference = FINGERPRINT, court.held["reference"].take(slice(4000))
    judges = court.oracles(court.judges)

    def accusing(x: Array, y: Labels, commitments: int) -> Accusation:
        others = [float((model.query(x).labels == y).mean()) for model in judges.values()]

        def accuse(predict: Predict) -> Verdict:
            share = float((predict(x).argmax(axis=1) == y).mean())
            p = beyond(share, others).p
            return verdict(share >= 0.75, p <= test.alpha, commitments * p <= test.alpha)

        return accuse

    studies = [test.prepare(Models(twin, reference, judges), court.rng("conferrable")) for twin in court.twins[:2]]
    agreed = [np.mean([labels_of(model, study.x) == study.y for model in court.own]) for study in studies]
    lucky = studies[int(np.argmax(agreed))]
    return Scheme(
        "conferrable examples",
        "Lukas et al. 2021",
        accusing(studies[0].x, studies[0].y, 1),
        accusing(*court.picked, 1),
        accusing(lucky.x, lucky.y, len(studies)),
        lambda: court.suspects(court.victim),
        queries=len(studies[0].x),
        shown=0,
        cost=0.0,
    )


def dataset_inference(court: Court) -> Scheme:
    """Maini et al. 2021, black-box: is the suspect surer of private images than of unseen ones?"""
    test, victim = INFERENCE, court.oracle(court.victim.predict)

    def accusing(private: Pool) -> Accusation:
        study = test.prepare(Images(victim, private, court.unseen), np.random.default_rng(1))

        def evidence(predict: Predict) -> tuple[float, float]:
            found = test.accuse(court.oracle(predict), study, np.random.default_rng(2))
            return found.p_value, found.details.delta_mu

        others = [evidence(model.predict)[1] for model in court.judges]

        def accuse(predict: Predict) -> Verdict:
            p, delta = evidence(predict)
            judged = beyond(delta, others).p <= test.alpha
            return verdict(p < test.alpha, judged, judged)

        return accuse

    some = court.private.take(slice(2 * (test.fit_images + test.test_images)))
    honest = accusing(some)
    return Scheme(
        "dataset inference",
        "Maini et al. 2021",
        honest,
        accusing(court.surer(some)),
        honest,
        lambda: court.suspects(court.victim),
        queries=2 * test.test_images * test.starts * 3 * test.walk_steps,
        shown=test.test_images,
        cost=0.0,
        costly=True,
    )


def inference_by_weights(court: Court) -> Scheme:
    """Maini et al. 2021, white-box: the judge has the suspect's weights."""
    test = WEIGHED

    def accusing(private: Pool) -> Accusation:
        study = test.prepare(court.victim, private, court.unseen, np.random.default_rng(1))
        others = {str(n): test.effect(model, study).delta_mu for n, model in enumerate(court.judges)}

        def accuse(predict: Predict) -> Verdict:
            model = getattr(predict, "__self__", None)
            if not isinstance(model, Network):  # several copies behind one door
                return NEVER
            found = test.accuse(model, study, others).details
            judged = found.p_models <= test.alpha
            return verdict(found.p_zero <= test.alpha, judged, judged)

        return accuse

    some = court.private.take(slice(test.fit_images + test.test_images))
    honest = accusing(some)
    return Scheme(
        "dataset inference by weights",
        "Maini et al. 2021",
        honest,
        accusing(court.surer(some)),
        honest,
        lambda: court.suspects(court.victim),
        queries=0,
        shown=test.test_images,
        cost=0.0,
        costly=True,
    )


def logits(probs: Array, labels: Labels) -> Array:
    """Returns the logit of the probability of a label for each row, which the contest's score is made of."""
    p = np.clip(probs[np.arange(len(labels)), labels].astype(np.float64), 1e-6, 1 - 1e-6)
    return np.asarray(np.log(p / (1 - p)))


def _siding(model: Network, wrong: Labels, reference: Pool) -> float:
    """Returns how often a model makes the errors of another one."""
    erring = wrong != reference.y
    return float((labels_of(model, reference.x[erring]) == wrong[erring]).mean())


FINGERPRINTS: tuple[Callable[[Court], Scheme], ...] = (twin_test, own_errors, conferrable)
COSTLY: tuple[Callable[[Court], Scheme], ...] = (dataset_inference, inference_by_weights)
