import asyncio

import numpy as np
import pytest
from scipy import stats

from defenses import GaussianNoise, Granularity, LabelFlips, LaplaceNoise, ReverseSigmoid, compose, disclosed
from defenses.answers.keyed import keyed_uniform
from wire import Answer, BadInput, Card, Query

CARD = Card("m", (4,), 5)
PROBS = np.array([[0.5, 0.25, 0.15, 0.0875, 0.0125], [0.1, 0.2, 0.3, 0.2, 0.2]], np.float32)
X = np.random.default_rng(0).random((500, 4), np.float32)
NOISE = GaussianNoise(0.1, b"0123456789abcdef")


def through(*defenses, probs=PROBS, x=None):
    async def victim(query):
        return Answer(probs.argmax(axis=1), probs)

    x = X[: len(probs)] if x is None else x
    return asyncio.run(compose(defenses, victim)(Query("a", x, 0.0)))


def test_the_full_vector_is_told_unchanged():
    answer = through(Granularity())
    np.testing.assert_array_equal(answer.probs, PROBS)
    np.testing.assert_array_equal(answer.labels, [0, 2])


def test_top_k_withholds_the_rest():
    answer = through(Granularity(top_k=2))
    kept = [[1, 1, np.nan, np.nan, np.nan], [np.nan, 1, 1, np.nan, np.nan]]  # of two that are equal, the first
    np.testing.assert_array_equal(answer.probs, PROBS * np.float32(kept))


def test_label_only_tells_labels():
    answer = through(Granularity(label_only=True))
    assert answer.probs is None
    np.testing.assert_array_equal(answer.labels, [0, 2])
    assert not disclosed([Granularity(label_only=True)], CARD).tells_probs


def test_rounding_keeps_so_many_digits():
    np.testing.assert_array_equal(through(Granularity(digits=1)).probs[0], np.float32([0.5, 0.2, 0.2, 0.1, 0.0]))


def test_temperature_divides_the_logits():
    told = through(Granularity(temperature=2.0)).probs
    expected = np.sqrt(PROBS) / np.sqrt(PROBS).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(told, expected, rtol=1e-5)
    np.testing.assert_allclose(through(Granularity(temperature=1.0)).probs, PROBS, rtol=1e-5)


def test_temperature_takes_a_probability_of_zero():
    told = through(Granularity(temperature=2.0), probs=np.float32([[1, 0, 0, 0, 0]])).probs
    np.testing.assert_array_equal(told, [[1, 0, 0, 0, 0]])


def test_rounding_comes_after_the_choice_of_the_top_k():
    told = through(Granularity(top_k=3, digits=1)).probs
    assert np.isnan(told[0]).tolist() == [False, False, False, True, True]


@pytest.mark.parametrize(
    "make",
    [
        lambda: GaussianNoise(0, b"k"),
        lambda: LaplaceNoise(-1, b"k"),
        lambda: ReverseSigmoid(2, 1),
        lambda: ReverseSigmoid(0.1, 0),
        lambda: LabelFlips(0, b"k"),
        lambda: LabelFlips(1.1, b"k"),
    ],
)
def test_perturbations_that_make_no_sense_are_refused(make):
    with pytest.raises(BadInput, match=r"must (be positive|lie between)"):
        make()


@pytest.mark.parametrize(
    "fields",
    [{"label_only": True, "digits": 2}, {"top_k": 0}, {"digits": -1}, {"temperature": 0.0}],
)
def test_granularity_that_makes_no_sense_is_refused(fields):
    with pytest.raises(BadInput, match="granularity"):
        Granularity(**fields)


def test_a_stack_that_contradicts_itself_is_refused():
    flips = LabelFlips(0.1, b"k" * 16)
    for outer in (Granularity(digits=2), NOISE, LaplaceNoise(0.1, b"k" * 16), ReverseSigmoid(0.1, 0.2), flips):
        with pytest.raises(BadInput, match=r"labels alone|withholds"):
            disclosed([outer, Granularity(label_only=True)], CARD)
    assert disclosed([Granularity(digits=2), NOISE], CARD) == CARD


def test_asking_twice_averages_nothing_away():
    probs = np.full((500, 5), 0.2, np.float32)
    first, again = through(NOISE, probs=probs), through(NOISE, probs=probs)
    np.testing.assert_array_equal(first.probs, again.probs)
    assert len(np.unique(first.probs[:, 0])) > 450


def test_the_noise_of_a_row_does_not_depend_on_its_company():
    together = keyed_uniform(b"k" * 16, X, 5)
    alone = np.concatenate([keyed_uniform(b"k" * 16, row[None], 5) for row in X[:20]])
    np.testing.assert_array_equal(together[:20], alone)


def test_rows_that_the_model_cannot_tell_apart_have_one_noise():
    zeros = np.zeros((1, 4), np.float32)
    np.testing.assert_array_equal(keyed_uniform(b"k" * 16, zeros, 5), keyed_uniform(b"k" * 16, -zeros, 5))


def test_another_secret_or_row_has_another_noise():
    ours, theirs = keyed_uniform(b"k" * 16, X, 5), keyed_uniform(b"j" * 16, X, 5)
    assert abs(np.corrcoef(ours.ravel(), theirs.ravel())[0, 1]) < 0.1
    assert abs(np.corrcoef(ours[:-1].ravel(), ours[1:].ravel())[0, 1]) < 0.1


def test_keyed_numbers_are_uniform_in_every_column():
    numbers = keyed_uniform(
        b"k" * 16, np.random.default_rng(1).random((2000, 4)), 20
    )  # more than one digest a row
    assert numbers.shape == (2000, 20)
    for column in numbers.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-4
    assert abs(np.corrcoef(numbers[:, 0], numbers[:, 16])[0, 1]) < 0.1


@pytest.mark.parametrize(
    ("defense", "expected"),
    [
        (GaussianNoise(0.3, b"k" * 16), stats.norm(scale=0.3)),
        (LaplaceNoise(0.3, b"k" * 16), stats.laplace(scale=0.3)),
    ],
)
def test_noise_has_its_distribution_and_scale(defense, expected):
    noise = defense.noise(np.random.default_rng(1).random((2000, 4)), 5)
    assert stats.kstest(noise.ravel(), expected.cdf).pvalue > 1e-3


def test_the_reverse_sigmoid_is_the_paper_s_formula():
    defense = ReverseSigmoid(beta=0.4, gamma=0.5)
    y = PROBS.astype(np.float64)
    told = y - 0.4 * (1 / (1 + (y / (1 - y)) ** -0.5) - 0.5)
    np.testing.assert_allclose(defense.perturb(PROBS), told / told.sum(axis=1, keepdims=True), rtol=1e-5)


def test_the_reverse_sigmoid_takes_certainty_and_what_is_withheld():
    probs = np.float32([[1, 0, 0, 0, 0], [0.6, np.nan, 0.4, np.nan, np.nan]])
    answer = through(ReverseSigmoid(beta=0.1, gamma=0.2), probs=probs)
    np.testing.assert_allclose(np.nansum(answer.probs, axis=1), 1, rtol=1e-5)
    assert np.isnan(answer.probs[1]).tolist() == [False, True, False, True, True]
    np.testing.assert_array_equal(answer.labels, [0, 0])
    assert 0.5 < answer.probs[0, 0] < 1


def test_flips_have_their_rate_and_tell_every_other_class():
    x = np.random.default_rng(3).random((4000, 4), np.float32)
    probs = np.random.default_rng(4).dirichlet(np.ones(5), 4000).astype(np.float32)
    answer, again = (through(LabelFlips(0.2, b"k" * 16), probs=probs, x=x) for _ in range(2))
    truth = probs.argmax(axis=1)
    flipped = answer.labels != truth
    assert stats.binomtest(int(flipped.sum()), 4000, 0.2).pvalue > 1e-3
    shifts = np.bincount((answer.labels - truth)[flipped] % 5, minlength=5)
    assert shifts[0] == 0 and stats.chisquare(shifts[1:]).pvalue > 1e-3
    np.testing.assert_array_equal(answer.labels, again.labels)
    np.testing.assert_array_equal(answer.labels, answer.probs.argmax(axis=1))
    np.testing.assert_array_equal(np.sort(answer.probs, axis=1), np.sort(probs, axis=1))
    np.testing.assert_array_equal(answer.probs[~flipped], probs[~flipped])


def test_noised_answers_are_distributions_and_the_label_is_their_greatest():
    probs = np.random.default_rng(2).dirichlet(np.ones(5), 500).astype(np.float32)
    answer = through(GaussianNoise(2.0, b"k" * 16), probs=probs)
    np.testing.assert_allclose(answer.probs.sum(axis=1), 1, rtol=1e-5)
    assert (answer.probs >= 0).all()
    np.testing.assert_array_equal(answer.labels, answer.probs.argmax(axis=1))
    assert (answer.labels != probs.argmax(axis=1)).any()


def test_noise_has_the_size_that_was_asked_for():
    probs = np.full((500, 5), 0.2, np.float32)
    added = NOISE.noise(X, 5)
    told = np.maximum(probs + added, 0)
    np.testing.assert_allclose(
        through(NOISE, probs=probs).probs, told / told.sum(axis=1, keepdims=True), rtol=1e-5
    )
    assert abs(added.std() - 0.1) < 0.01


def test_the_first_defence_answers_last():
    def mark(name):
        async def defence(query, handle):
            seen.append(name)
            return await handle(query)

        return defence

    seen = []
    through(mark("outer"), mark("inner"))
    assert seen == ["outer", "inner"]
