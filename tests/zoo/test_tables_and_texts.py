"""Sets that lie in the user's data folder: Adult, Location-30, rt-polarity."""

import gzip
import io
import tarfile

import numpy as np
import pytest

from wire import BadInput
from zoo import data
from zoo.data import Missing, roles
from zoo.data.adult import COLUMNS

UCI = """39, State-gov, 77516, Bachelors, 13, Divorced, Sales, Unmarried, White, Male, 2174, 0, 40, Cuba, <=50K
52, ?, 209642, HS-grad, 9, Married, ?, Husband, White, Male, 0, 0, 45, ?, >50K

"""
TEST = """|1x3 Cross validator
25, Private, 226802, 11th, 7, Never-married, Machine-op, Own-child, Black, Male, 0, 0, 40, Cuba, <=50K.
"""
HEADER = ",".join([*COLUMNS, "income-per-year"]) + "\n"


def adult(folder):
    return data.load("adult", folder, folder / "cache").pool


def test_adult_as_uci_has_it(tmp_path):
    (tmp_path / "adult.data").write_text(UCI)
    (tmp_path / "adult.test").write_text(TEST)
    pool = adult(tmp_path)
    features = {feature.name: feature.categories for feature in pool.features}
    assert pool.class_names == ("<=50K", ">50K") and pool.y.tolist() == [0, 1, 0]
    assert pool.missing and pool.x.shape == (3, 14)
    assert features["age"] == features["fnlwgt"] == ()
    assert features["workclass"] == ("Private", "State-gov")
    np.testing.assert_array_equal(pool.x[:, 0], [39, 52, 25])
    np.testing.assert_array_equal(pool.x[:, 1], [1, np.nan, 0])
    np.testing.assert_array_equal(pool.x[:, 13], [0, np.nan, 0])
    assert np.isnan(pool.x).sum() == 3


@pytest.mark.parametrize("place", ["adult.csv", "adult/adult.csv", "adult/adult.csv.gz"])
def test_adult_with_a_header(tmp_path, place):
    content = (HEADER + UCI.replace(", ", ",")).encode()
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_bytes(gzip.compress(content) if place.endswith("gz") else content)
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "adult.data").write_text(UCI)
    assert adult(tmp_path).fingerprint == adult(tmp_path / "plain").fingerprint


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("", "the file has no rows"),
        (HEADER.replace("workclass", "class"), "the columns are age, class, .*; expected age, workclass"),
        (UCI.replace("<=50K", "much"), r"a row has 15 cells and ends with 'much'; expected 15 and <=50K or >50K"),
        (UCI.replace(", Cuba", ""), "a row has 14 cells"),
        (UCI.replace("39,", "old,"), "age: could not convert string to float: 'old'"),
    ],
)
def test_what_is_not_adult_is_refused(tmp_path, content, fault):
    (tmp_path / "adult.data").write_text(content)
    with pytest.raises(BadInput, match=rf"adult\.data: .*{fault}"):
        adult(tmp_path)


def location_lines():
    rng = np.random.default_rng(0)
    return "".join(f'"{1 + n % 30}",' + ",".join(map(str, rng.integers(0, 2, 446))) + "\n" for n in range(60))


def test_location_30(tmp_path):
    content = location_lines().encode()
    (tmp_path / "location30").mkdir()
    with tarfile.open(tmp_path / "location30" / "dataset_location.tgz", "w:gz") as archive:
        member = tarfile.TarInfo("bangkok")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    pool = data.load("location30", tmp_path, tmp_path).pool
    assert pool.x.shape == (60, 446) and set(np.unique(pool.x)) == {0, 1}
    assert pool.class_names[:2] == ("1", "2") and pool.y.tolist()[:31] == [*range(30), 0]
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "bangkok").write_bytes(content)
    assert data.load("location30", tmp_path / "plain", tmp_path).pool.fingerprint == pool.fingerprint


@pytest.mark.parametrize("content", ["1,2,3\n", location_lines().replace(",1", ",2"), "a,b\n"])
def test_what_is_not_location_30_is_refused(tmp_path, content):
    (tmp_path / "bangkok").write_text(content)
    with pytest.raises(BadInput, match="bangkok: "):
        data.load("location30", tmp_path, tmp_path)


def test_an_archive_without_the_rows_is_refused(tmp_path):
    with tarfile.open(tmp_path / "dataset_location.tgz", "w:gz"):
        pass
    with pytest.raises(BadInput, match="bangkok"):
        data.load("location30", tmp_path, tmp_path)


def test_rt_polarity(tmp_path):
    (tmp_path / "rt-polarity").mkdir()
    (tmp_path / "rt-polarity" / "rt-polarity.pos").write_text("a fine film .\n\nmoving , too\n")
    content = "dull\na cliché\n".encode("latin-1")
    (tmp_path / "rt-polarity" / "rt-polarity.neg.gz").write_bytes(gzip.compress(content))
    pool = data.load("rt_polarity", tmp_path, tmp_path).pool
    assert (pool.dtype, pool.input_shape) == ("BYTES", ())
    assert pool.x.tolist() == ["dull", "a cliché", "a fine film .", "moving , too"]
    assert [pool.class_names[label] for label in pool.y] == ["negative", "negative", "positive", "positive"]


@pytest.mark.parametrize(
    ("name", "advice"),
    [("adult", r"adult\.data"), ("location30", r"dataset_location\.tgz"), ("rt_polarity", r"rt-polarity\.neg")],
)
def test_a_set_that_is_nowhere_says_what_to_put_where(tmp_path, name, advice):
    for folder, where in ((tmp_path, f"not in the data folder {tmp_path}"), (None, "no data folder is set")):
        with pytest.raises(Missing, match=rf"{name}: {where}; put .*{advice}.* into the data folder \(--data or"):
            data.load(name, folder, tmp_path)


@pytest.mark.parametrize("kind", ["gbdt", "tfidf"])
def test_roles_are_drawn_from_tables_and_texts(tmp_path, kind):
    from kinds import KINDS

    pool = KINDS[kind][1]
    folder = roles.written(data.Dataset("some", pool.take(np.arange(240) % len(pool)), ""), 0, tmp_path / "roles")
    victim, candidates = (data.Pool.load(folder / f"{name}.npz") for name in ("victim", "candidates"))
    assert (victim.dtype, victim.features, victim.missing) == (pool.dtype, pool.features, pool.missing)
    assert (candidates.dtype, candidates.features, len(candidates)) == (pool.dtype, pool.features, 34)
    attackers = data.Pool.load(folder / "pool.npz")
    assert attackers.y is None and attackers.features == pool.features
