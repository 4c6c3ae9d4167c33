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
from experiments.court.court import NEVER, Accusation, Court, Scheme, Verdict, verdict
from experiments.studies.evasions import Predict
from owner.backdoor import BackdoorTest, Marked, Study
from owner.dawn import Dawn as DawnTest
from owner.honeytrace import HoneytraceTest, Triggers, files_of
from owner.one_more import beyond
from owner.radioactive import Pairs, RadioactiveTest, key_of, marked_by
from owner.scheme_key import Rule, SchemeKey
from owner.trigger_key import TriggerKey
from wire import Array, Labels
from zoo.data import Pool
from zoo.penultimate import activation_bits, penultimate

RATE = 0.02  # of DAWN
RNG = np.random.default_rng(0)  # of accusations that draw nothing
MARKED, TRACED = RadioactiveTest(), HoneytraceTest()


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
            compared, counted = (test.accuse(suspect, held, RNG).verdict == "accused" for held in (one, many))
            return verdict(True, compared, counted)

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
    rng, mark, test = court.rng("radioactive"), Radioactive(), MARKED
    marker = court.trained(court.held["shadow"].take(slice(court.sizes.rows)), 7000 + court.seed)
    chosen = np.sort(rng.permutation(len(court.private))[: round(mark.share * len(court.private))])
    vanilla = court.private.take(chosen)
    key = key_of(mark, vanilla, marker, rng.bytes(32).hex())
    pairs, x = (vanilla, marked_by(key, vanilla, marker, key.seed)), court.private.x.copy()
    x[chosen] = pairs[1].x
    victim = court.trained(replace(court.private, x=x), court.seed)
    shown = court.held["pool"].take(slice(test.rows))
    keys = [key_of(mark, shown, marker, rng.bytes(32).hex()) for _ in range(court.sizes.marked_secrets)]
    tries = [(shown, marked_by(one, shown, marker, one.seed)) for one in keys]
    lucky = int(np.argmax([np.mean([_difference(model.predict, one) for model in court.own]) for one in tries]))

    def accusing(pairs: tuple[Pool, Pool], key: SchemeKey | None, commitments: int) -> Accusation:
        held = Pairs(*pairs, court.oracles(court.judges), key, marker)
        study = test.prepare(held, np.random.default_rng(0))

        def accuse(predict: Predict) -> Verdict:
            found = test.accuse(court.oracle(predict), study, RNG).details
            compared, counted = (n * found.p_models <= test.alpha for n in (1, commitments))
            keyed = [n * found.p_keys <= test.alpha for n in (1, commitments)] if key else []
            return verdict(found.p_paired <= test.alpha, compared, counted, keyed)

        return accuse

    return Scheme(
        "radioactive data",
        "Sablayrolles et al. 2020",
        accusing(pairs, key, 1),
        accusing((shown, court.surer(shown)), None, 1),
        accusing(tries[lucky], keys[lucky], len(keys)),
        lambda: court.suspects(victim),
        queries=(2 + test.wrong) * test.rows,
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
            published, compared, counted = (loss < test.error and one < chance for one in p)
            return verdict(published, compared, counted)

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
    rng, test, pool = court.rng("honeytrace"), TRACED, court.held["reference"]
    layer, rule = Honeytrace(Path(), Path()), Rule("honeytrace", test.committed(), files_of(pool))
    key, *keys = (SchemeKey(rng.bytes(32).hex(), rule) for _ in range(1 + court.sizes.secrets))
    secret, classes = key.seed, court.card.classes
    inner = penultimate(court.victim)
    bits = activation_bits(court.victim, np.median(inner.logits(pool.x), axis=0).astype(np.float32))

    def describe(x: Array) -> Array:
        return bits.predict(x)[:, 1]

    marks = triggers(pool, secret, 400)
    assert marks.y is not None
    trace = layer.trace(describe(marks.x), describe(pool.x[:2000]), classes, int(marks.y[0]))

    def served(x: Array) -> Array:
        probs = court.victim.predict(x)
        leaned = trace.leaned(probs, trace.similarity(describe(x), probs), _noise(x, secret))
        assert leaned.probs is not None
        return leaned.probs

    def accusing(key: SchemeKey, commitments: int, picked: Pool | None = None) -> Accusation:
        study = test.prepare(Triggers(pool, key, court.oracles(court.judges)), RNG)
        study = study if picked is None else replace(study, triggers=[picked])
        others = [float(study.leans(judge).shares[0]) for judge in court.oracles(court.judges).values()]

        def accuse(predict: Predict) -> Verdict:
            own = study.leans(court.oracle(predict))
            guessed = stats.binomtest(
                round(own.shares[0] * test.rows), test.rows, 1 / classes, alternative="greater"
            )
            p, keyed = beyond(float(own.shares[0]), others).p, []
            if picked is None:
                sure = study.standing(own).p
                keyed = [n * sure <= test.alpha for n in (1, commitments)]
            compared, counted = (n * p <= test.alpha for n in (1, commitments))
            return verdict(guessed.pvalue <= test.alpha, compared, counted, keyed)

        return accuse

    tries = [triggers(pool, one.seed, test.rows) for one in keys]
    agreed = [np.mean([labels_of(model, one.x) == one.y for model in court.own]) for one in tries]
    natural = np.stack([labels_of(model, tries[0].x) for model in court.own])
    picked = replace(tries[0], y=np.full(test.rows, np.bincount(natural.ravel()).argmax()))
    lucky = int(np.argmax(agreed))
    return Scheme(
        "Neural Honeytrace",
        "Xu et al. 2025",
        accusing(key, 1),
        accusing(keys[0], 1, picked),
        accusing(keys[lucky], len(keys)),
        lambda: court.thefts(served),
        queries=(1 + test.wrong) * test.rows,
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
