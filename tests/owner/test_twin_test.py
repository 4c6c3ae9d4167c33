import dataclasses

import numpy as np
import pytest
from scipy import stats

from owner.evidence import describe, load
from owner.twin_test import TwinTest, dispute, ranking, similarity
from owner.twins.answers import Answers, Holdings
from owner.twins.ranks import CAUTION, Ranks
from tests.owner.lottery import CARD, asking, drawn, reference, twins
from wire import Answer, BadInput, Malformed, Oracle, Refused, WireError

SMALL = TwinTest(rows=60, copies=False)
RNG = np.random.default_rng(0)


def study_of(models, victim=0, method=SMALL, independent=None):
    held = Holdings(twins(models, victim, method.committed()), independent or {})
    return method.prepare(held, RNG)


def accused(suspect, models, victim=0, method=SMALL, independent=None):
    study = study_of(models, victim, method, independent)
    return method.accuse(suspect if isinstance(suspect, Oracle) else asking(suspect), study, RNG)


# --- the null hypothesis -----------------------------------------------------------------------------------------


def independent(rng, models):
    return drawn(rng)


def of_another_family(rng, models):
    return np.random.default_rng(5).normal(size=(25, 3))  # the same in every trial


@pytest.mark.parametrize("suspect", [independent, of_another_family])
def test_the_victims_rank_is_uniform_for_suspects_that_do_not_depend_on_it(suspect):
    rng, ranks = np.random.default_rng(7), []
    for _ in range(400):
        models = [drawn(rng) for _ in range(8)]
        ranks.append(accused(suspect(rng, models), models).details.rank)
    assert stats.chisquare(np.bincount(ranks, minlength=9)[1:]).pvalue > 0.01


def test_a_theft_of_a_twin_does_not_accuse_the_victim():
    rng = np.random.default_rng(7)
    for _ in range(20):
        models = [drawn(rng) for _ in range(8)]
        found = accused(models[3], models)
        assert found.verdict == "inconclusive" and found.details.rank > 1


def test_t_keeps_its_level_on_independent_models():
    rng = np.random.default_rng(8)
    p = [accused(drawn(rng), [drawn(rng) for _ in range(12)]).details.p_t for _ in range(400)]
    assert stats.kstest(p, "uniform").pvalue > 0.01


# --- all models alike --------------------------------------------------------------------------------------------


def test_renumbering_the_models_changes_nothing_but_their_numbers():
    rng = np.random.default_rng(2)
    models, suspect, order = np.stack([drawn(rng) for _ in range(9)]), drawn(rng), rng.permutation(9)
    before, after = study_of(models), study_of(models[order])
    np.testing.assert_array_equal(before.answers.chosen, after.answers.chosen)
    np.testing.assert_array_equal(before.x, after.x)
    one, other = (SMALL.accuse(asking(suspect), study, RNG).details for study in (before, after))
    np.testing.assert_allclose(np.array(one.similarities)[order], other.similarities, rtol=1e-4)


def test_whichever_model_is_the_victim_the_ranks_are_a_permutation():
    rng = np.random.default_rng(3)
    models, suspect = [drawn(rng) for _ in range(9)], drawn(rng)
    found = [accused(suspect, models, victim).details for victim in range(9)]
    assert sorted(one.p_rank for one in found) == pytest.approx([rank / 9 for rank in range(1, 10)])
    assert len({one.similarities for one in found}) == 1 and len({one.labels for one in found}) == 1


# --- thefts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_a_suspect_that_hangs_on_the_victim_is_accused(noise):
    rng = np.random.default_rng(4)
    models = [drawn(rng) for _ in range(12)]
    found = accused(models[0] + noise * rng.normal(size=(25, 3)), models)
    assert found.verdict == "accused" and found.details.rank == 1 and found.p_value < 0.01
    assert found.details.p_rank == 1 / 12 and found.details.rests_on == "t"


def test_with_enough_twins_the_verdict_rests_on_the_rank():
    rng = np.random.default_rng(4)
    models = [drawn(rng) for _ in range(100)]
    found = accused(models[0], models)
    assert found.verdict == "accused" and found.details.rests_on == "rank"
    assert found.p_value == found.details.p_rank == 0.01
    twice = accused(models[0], models, method=dataclasses.replace(SMALL, tries=2))
    assert twice.details.rests_on == "t" and twice.p_value == pytest.approx(2 * twice.details.p_t)


def test_tests_that_were_tried_before_count():
    rng = np.random.default_rng(4)
    models = [drawn(rng) for _ in range(12)]
    suspect = models[0] + 0.1 * rng.normal(size=(25, 3))
    once = accused(suspect, models)
    tries = int(0.01 / once.p_value) + 1
    often = accused(suspect, models, method=dataclasses.replace(SMALL, tries=tries))
    assert once.verdict == "accused" and often.verdict == "inconclusive" and often.p_value > 0.01


def test_independent_models_that_the_victim_resembles_as_well_prevent_an_accusation():
    rng = np.random.default_rng(4)
    models = [drawn(rng) for _ in range(12)]
    alike = {"alike": asking(models[0] + 0.02 * rng.normal(size=(25, 3))), "other": asking(drawn(rng))}
    found = accused(models[0] + 0.05 * rng.normal(size=(25, 3)), models, independent=alike)
    assert found.details.rank == 1 and found.verdict == "inconclusive"
    assert found.details.limit == max(found.details.independent.values()) + 1 > found.details.z
    assert found.details.independent_accused == 1
    assert "would accuse 1 of 2" in describe(found)


def test_a_victims_luck_with_a_family_is_allowed_for_whatever_independent_models_show():
    rng = np.random.default_rng(4)
    models = [drawn(rng) for _ in range(12)]
    suspect, other = models[0] + 0.05 * rng.normal(size=(25, 3)), {"other": asking(drawn(rng))}
    found = accused(suspect, models, independent=other)
    assert found.verdict == "accused" and found.details.limit == 3 > max(found.details.independent.values()) + 1
    strict = dataclasses.replace(SMALL, least=found.details.z + 0.1)
    assert accused(suspect, models, method=strict, independent=other).verdict == "inconclusive"


# --- what is asked -----------------------------------------------------------------------------------------------


def test_the_most_disputed_rows_are_asked_first_and_then_their_copies():
    rng = np.random.default_rng(5)
    models, asked = [drawn(rng) for _ in range(7)], []
    method = TwinTest(rows=10)
    study = study_of(models, method=method)
    found = method.accuse(asking(models[0], asked), study, RNG)
    x, rows = np.concatenate(asked), reference()
    labels = study.holdings.twins.predict(rows.x).argmax(axis=2)
    chosen = np.argsort(-dispute(labels, 3), kind="stable")[:10]
    np.testing.assert_array_equal(x[:10], rows.x[chosen])
    assert len(x) == found.suspect_queries == method.most_rows().suspect == 90 and found.details.chosen == 10
    np.testing.assert_array_equal(x[10], np.roll(rows.x[chosen[0]], 1, axis=1))


def test_undisputed_rows_are_not_asked():
    rng = np.random.default_rng(5)
    models = [drawn(rng, 0.01) for _ in range(7)]
    study = study_of(models, method=TwinTest(rows=200, copies=False))
    labels = study.holdings.twins.predict(study.x).argmax(axis=2)
    assert 0 < len(study.x) < 200 and (labels != labels[0]).any(axis=0).all()
    with pytest.raises(BadInput, match="all 3 models agree about all 200 reference rows"):
        study_of(models[:1] * 3)


def test_dispute_is_the_chance_that_two_models_differ():
    labels = np.array([[0, 0, 0], [0, 1, 1], [0, 1, 2]])
    np.testing.assert_allclose(dispute(labels, 3), [0, 1 - 5 / 9, 1 - 3 / 9])


def test_similarity_is_ridge_regression_on_the_models_deviations():
    rng = np.random.default_rng(6)
    probs, labels = rng.dirichlet(np.ones(4), (5, 30)).astype(np.float32), rng.integers(4, size=30)
    r = (probs - probs.mean(0)).reshape(5, -1)
    q = (np.eye(4)[labels] - probs.mean(0)).reshape(-1)
    penalty = 0.1 * (r**2).sum() / 5
    normal = np.linalg.lstsq(
        np.concatenate([r.T, np.sqrt(penalty) * np.eye(5)]), np.concatenate([q, np.zeros(5)]), rcond=None
    )[0]
    np.testing.assert_allclose(similarity(probs, labels, 0.1), normal, rtol=1e-4)


@pytest.mark.parametrize(("values", "rank"), [([3, 1, 2], 1), ([2, 3, 1], 2), ([2, 2, 1], 2), ([1, 1, 1.5], 3)])
def test_ties_count_against_the_victim(values, rank):
    assert ranking(np.array(values, float), 0)[:2] == (rank, rank / 3)


# --- suspects that do not do as they are asked -------------------------------------------------------------------


def test_the_answers_before_a_budget_ends_are_ranked():
    rng = np.random.default_rng(4)
    models = [drawn(rng) for _ in range(12)]
    found = accused(asking(models[0], limit=40), models)
    assert found.suspect_queries == len(found.details.labels) == 40 and "budget of 40" in found.details.stopped
    assert found.verdict == "accused" and "stopped early" in describe(found)
    with pytest.raises(WireError, match="budget of 0"):
        accused(asking(models[0], limit=0), models)


def test_a_refusal_at_once_is_the_suspects():
    def refuse(x):
        raise Refused("no key")

    with pytest.raises(Refused, match="no key"):
        accused(Oracle(refuse, CARD), [drawn(RNG) for _ in range(4)])


def test_an_unknown_class_is_told():
    oracle = Oracle(lambda x: Answer(np.full(len(x), 7)), dataclasses.replace(CARD, classes=0))
    with pytest.raises(Malformed, match="suspect answered with class 7; expected 0 to 2"):
        accused(oracle, [drawn(RNG) for _ in range(4)])


@pytest.mark.parametrize(
    ("card", "fault"),
    [
        (dataclasses.replace(CARD, input_shape=(25,)), "the reference rows: the rows have shape"),
        (dataclasses.replace(CARD, classes=4), "suspect has 4 classes, but the twins have 3"),
        (dataclasses.replace(CARD, low=0.0, high=1.0), "the reference rows: the features lie between"),
    ],
)
def test_a_model_that_does_not_fit_is_told_before_the_first_query(card, fault):
    held = Holdings(twins([drawn(RNG)] * 3, settings=SMALL.committed()), {})
    with pytest.raises(BadInput, match=fault):
        SMALL.check(card, held)
    with pytest.raises(BadInput, match=fault):
        SMALL.check(CARD, dataclasses.replace(held, independent={"one": Oracle(lambda x: x, card)}))


def test_settings_that_were_not_committed_to_are_refused():
    held = Holdings(twins([drawn(RNG)] * 3, settings=SMALL.committed()), {})
    SMALL.check(CARD, held)
    dataclasses.replace(SMALL, tries=3).check(CARD, held)
    for change in (
        {"rows": 50},
        {"copies": True},
        {"ridge": 0.2},
        {"alpha": 0.05},
        {"margin": 0.0},
        {"least": 2.0},
    ):
        (name,) = change
        with pytest.raises(BadInput, match=f"{name} is .*, but the study committed to"):
            dataclasses.replace(SMALL, **change).check(CARD, held)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rows": 0},
        {"tries": 0},
        {"ridge": 0.0},
        {"alpha": 1.0},
        {"margin": -1.0},
        {"least": -1.0},
        {"ridge": float("nan")},
    ],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(BadInput, match="must be"):
        TwinTest(**wrong)


# --- files -------------------------------------------------------------------------------------------------------


def test_answers_come_back_from_their_file(tmp_path):
    models, path = [drawn(RNG) for _ in range(5)], tmp_path / "answers.npz"
    method = TwinTest(rows=9)
    study = study_of(models, method=method)
    method.save_study(study, path, {})
    again = method.load_study(path, study.holdings, {})
    np.testing.assert_array_equal(study.x, again.x)
    np.testing.assert_array_equal(study.answers.probs, again.answers.probs)
    with pytest.raises(BadInput, match="belongs to the commitment 00, but the study's is 11"):
        Answers.load(path, "11")
    path.write_bytes(b"no")
    with pytest.raises(BadInput, match=r"answers\.npz: not a valid \.npz file of the answers of a study"):
        Answers.load(path, "00")


def test_evidence_comes_back_from_its_file_and_is_described(tmp_path):
    models = [drawn(RNG) for _ in range(12)]
    found = accused(models[0], models)
    found.save(tmp_path / "evidence.json")
    assert load(tmp_path / "evidence.json", Ranks) == found
    text = describe(found)
    assert "the victim is number 1 of 12 models by similarity: exact p = 0.0833" in text
    assert "approximate" in text and "no independent model was tested" in text and CAUTION in text
    assert "against the published commitment 00" in text
