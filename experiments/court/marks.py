"""Schemes that mark a victim or its answers: backdoor, radioactive data, DAWN, Neural Honeytrace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import stats

from defenses.answers.row_noise import row_noise
from defenses.training.backdoor import Backdoor
from defenses.training.radioactive import Radioactive
from defenses.watermarks.honeytrace import Honeytrace, triggers
from defenses.watermarks.key import WatermarkKey
from defenses.watermarks.verification import chance_bound, tail
from experiments.claims.independent import accuracy, labels_of, telling
from experiments.claims.radioactive import marked_rows
from experiments.court.court import NEVER, Accusation, Court, Scheme, Verdict, verdict
from experiments.studies.evasions import Predict
from owner.backdoor import BackdoorTest, Marked, Study
from owner.dawn import Dawn as DawnTest
from owner.honeytrace import HoneytraceTest, Triggers, shared
from owner.one_more import beyond
from owner.radioactive import Pairs, RadioactiveTest
from owner.trigger_key import TriggerKey
from wire import Array, Labels
from zoo.data import Pool
from zoo.penultimate import activation_bits, penultimate

RATE = 0.02  # of DAWN
RNG = np.random.default_rng(0)  # of accusations that draw nothing


def backdoor(court: Court) -> Scheme:
    """Adi et al. 2018: triggers with secret labels; all opened triggers follow from seeds."""
    rng, test = court.rng("backdoor"), BackdoorTest()
    key = TriggerKey.new(Backdoor(), court.private, None, rng.bytes(32).hex())
    victim = court.trained(key.rule.mark.marked(court.private, *key.triggers), court.seed)
    study = test.prepare(Marked(key, {}), rng)
    x, y = court.picked
    keys = [
        TriggerKey.new(replace(Backdoor(), triggers=test.most), court.private, None, rng.bytes(32).hex())
        for _ in range(court.sizes.secrets)
    ]
    held = [np.mean([labels_of(model, one.triggers[0]) == one.triggers[1] for model in court.own]) for one in keys]
    lucky = test.prepare(Marked(keys[int(np.argmax(held))], {}), rng)

    def accusing(study: Study, commitments: int) -> Accusation:
        judges = {
            str(n): telling(study.x, labels_of(one, study.x), court.card) for n, one in enumerate(court.judges)
        }
        one, many = (replace(study, independent=judges, commitments=n) for n in (1, commitments))

        def accuse(predict: Predict) -> Verdict:
            suspect = telling(study.x, predict(study.x).argmax(axis=1), court.card)
            if test.accuse(suspect, study, RNG).verdict != "accused":
                return NEVER
            return verdict(True, *(test.accuse(suspect, held, RNG).verdict == "accused" for held in (one, many)))

        return accuse

    opened = len(study.x)
    return Scheme(
        "backdoor",
        "Adi et al. 2018",
        accusing(study, 1),
        accusing(replace(study, x=x[:opened], y=y[:opened]), 1),
        accusing(lucky, len(keys)),
        lambda: court.suspects(victim),
        queries=opened,
        shown=0,
        cost=_cost(court, victim.predict),
    )


def radioactive(court: Court) -> Scheme:
    """Sablayrolles et al. 2020: a tenth of the private images is marked; tested by answers."""
    rng, mark, test = court.rng("radioactive"), Radioactive(), RadioactiveTest()
    marker = court.trained(court.held["shadow"].take(slice(court.sizes.rows)), 7000 + court.seed)
    pairs, rows = marked_rows(mark, court.private, marker, rng.bytes(32).hex())
    victim = court.trained(rows, court.seed)
    shown = court.held["pool"].take(slice(test.rows))
    tries = [(shown, mark.marked(shown, marker, rng.bytes(32).hex())) for _ in range(court.sizes.marked_secrets)]
    gains = [np.mean([_difference(model.predict, one) for model in court.own]) for one in tries]

    def accusing(pairs: tuple[Pool, Pool], commitments: int) -> Accusation:
        vanilla, marked = (pool.take(slice(test.rows)) for pool in pairs)
        study = test.prepare(Pairs(vanilla, marked, court.oracles(court.judges)), np.random.default_rng(0))

        def accuse(predict: Predict) -> Verdict:
            found = test.accuse(court.oracle(predict), study, RNG).details
            compared, counted = (n * found.p_models <= test.alpha for n in (1, commitments))
            return verdict(found.p_paired <= test.alpha, compared, counted)

        return accuse

    return Scheme(
        "radioactive data",
        "Sablayrolles et al. 2020",
        accusing(pairs, 1),
        accusing((shown, court.surer(shown)), 1),
        accusing(tries[int(np.argmax(gains))], len(tries)),
        lambda: court.suspects(victim),
        queries=2 * test.rows,
        shown=test.rows,
        cost=_cost(court, victim.predict),
    )


def dawn(court: Court) -> Scheme:
    """Szyller et al. 2021: false labels for a keyed share of a thief's rows."""
    rng, classes, test = court.rng("dawn"), court.card.classes, DawnTest()
    labels, chance = labels_of(court.victim, court.asked), 2.0**-test.bits

    def marks(x: Array, labels: Labels, secret: bytes) -> tuple[Labels, Labels]:
        key, points = WatermarkKey(secret), [row.tobytes() for row in x]
        chosen = key.marked(RATE, "row", points)
        false = [key.false_label("row", points[i], int(labels[i]), classes) for i in chosen]
        return np.array(chosen, np.int64), np.array(false, np.int64)

    chosen, false = marks(court.asked, labels, rng.bytes(32))

    def served(x: Array) -> Array:
        probs = court.victim.predict(x)
        return _exchanged(probs, chosen, false)

    def accusing(x: Array, y: Labels, commitments: int) -> Accusation:
        agreed = [int((labels_of(model, x) == y).sum()) for model in court.judges]
        p0 = chance_bound(agreed, len(y), classes)

        def accuse(predict: Predict) -> Verdict:
            loss = 1 - float((predict(x).argmax(axis=1) == y).mean())
            p = [tail(len(y), loss, 1 / classes), *(n * tail(len(y), loss, p0) for n in (1, commitments))]
            return verdict(*(loss < test.error and one < chance for one in p))

        return accuse

    tries = []
    for _ in range(court.sizes.secrets):
        found, lie = marks(court.asked, labels, rng.bytes(32))
        if len(found):
            agreed = np.mean([labels_of(model, court.asked[found]) == lie for model in court.own])
            tries.append((float(agreed), found, lie))
    _, lucky, lie = max(tries, key=lambda one: one[0])
    return Scheme(
        "DAWN",
        "Szyller et al. 2021",
        accusing(court.asked[chosen], false, 1),
        accusing(*court.picked, 1),
        accusing(court.asked[lucky], lie, len(tries)),
        lambda: court.thefts(served),
        queries=len(chosen),
        shown=0,
        cost=-RATE * accuracy(court.victim, court.held["evaluation"]),
    )


def honeytrace(court: Court) -> Scheme:
    """Xu et al. 2025: answers for inputs that resemble triggers are shifted towards a secret class."""
    rng, test, pool = court.rng("honeytrace"), HoneytraceTest(), court.held["reference"]
    layer = Honeytrace(Path(), Path())
    secret = rng.bytes(32).hex()
    inner = penultimate(court.victim)
    bits = activation_bits(court.victim, np.median(inner.logits(pool.x), axis=0).astype(np.float32))

    def describe(x: Array) -> Array:
        return bits.predict(x)[:, 1]

    marks = triggers(court.private, secret, 400)
    assert marks.y is not None
    trace = layer.trace(describe(marks.x), describe(pool.x[:2000]), court.card.classes, int(marks.y[0]))

    def served(x: Array) -> Array:
        probs = court.victim.predict(x)
        leaned = trace.leaned(probs, trace.similarity(describe(x), probs), _noise(x, secret))
        assert leaned.probs is not None
        return leaned.probs

    def accusing(marks: Pool, commitments: int) -> Accusation:
        study = test.prepare(Triggers(marks, court.oracles(court.judges)), RNG)

        def accuse(predict: Predict) -> Verdict:
            share = shared(court.oracle(predict), study.triggers)
            rows = len(study.triggers)
            guessed = stats.binomtest(round(share * rows), rows, 1 / court.card.classes, alternative="greater")
            p = beyond(share, list(study.independent.values())).p
            return verdict(guessed.pvalue <= test.alpha, p <= test.alpha, commitments * p <= test.alpha)

        return accuse

    tries = [triggers(pool, rng.bytes(32).hex(), test.rows) for _ in range(court.sizes.secrets)]
    agreed = [np.mean([labels_of(model, one.x) == one.y for model in court.own]) for one in tries]
    natural = np.stack([labels_of(model, tries[0].x) for model in court.own])
    picked = replace(tries[0], y=np.full(test.rows, np.bincount(natural.ravel()).argmax()))
    return Scheme(
        "Neural Honeytrace",
        "Xu et al. 2025",
        accusing(triggers(pool, secret, test.rows), 1),
        accusing(picked, 1),
        accusing(tries[int(np.argmax(agreed))], len(tries)),
        lambda: court.thefts(served),
        queries=test.rows,
        shown=0,
        cost=_cost(court, served),
    )


def _cost(court: Court, predict: Predict) -> float:
    """Returns the accuracy less that of the victim without a mark."""
    evaluation = court.held["evaluation"]
    own = float((predict(evaluation.x).argmax(axis=1) == evaluation.y).mean())
    return own - accuracy(court.victim, evaluation)


def _difference(predict: Callable[[Array], Array], pairs: tuple[Pool, Pool]) -> float:
    """Returns the mean loss on originals less that on marked images."""
    assert pairs[0].y is not None
    places = np.arange(len(pairs[0])), pairs[0].y
    return float(np.mean([np.log(np.maximum(predict(pool.x)[places], 1e-6)) for pool in pairs], axis=1) @ [-1, 1])


def _exchanged(probs: Array, rows: Labels, labels: Labels) -> Array:
    """Returns probabilities in which rows have other labels, as DAWN tells them."""
    made = probs.copy()
    best = made[rows].argmax(axis=1)
    made[rows, best], made[rows, labels] = probs[rows, labels], probs[rows, best]
    return made


def _noise(x: Array, secret: str) -> Array:
    return row_noise(bytes.fromhex(secret), x, 1)[:, 0]


MARKS: tuple[Callable[[Court], Scheme], ...] = (backdoor, radioactive, dawn, honeytrace)
