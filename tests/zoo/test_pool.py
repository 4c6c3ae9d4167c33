import numpy as np
import pytest

from wire import BadInput, Feature
from zoo.data.pool import Pool, bytes_to_rows, texts


def pool(n=10):
    rng = np.random.default_rng(0)
    return Pool(bytes_to_rows(rng.integers(0, 256, (n, 1, 5, 5))), rng.integers(0, 2, n), ("cat", "dög"))


def same(one, other):
    np.testing.assert_array_equal(one.x, other.x)
    assert one.x.dtype == other.x.dtype == np.float32
    assert (one.y is None) == (other.y is None)
    if one.y is not None:
        np.testing.assert_array_equal(one.y, other.y)
        assert one.y.dtype == other.y.dtype == np.int64
    assert one.class_names == other.class_names


def test_images_come_back_and_are_kept_as_bytes(tmp_path):
    pool().save(tmp_path / "new" / "pool.npz")
    same(Pool.load(tmp_path / "new" / "pool.npz"), pool())
    with np.load(tmp_path / "new" / "pool.npz") as file:
        assert file["x"].dtype == np.uint8
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["pool.npz"]


@pytest.mark.parametrize("low", [-1.0, 0.0])
def test_rows_that_are_no_bytes_come_back_as_they_were(tmp_path, low):
    x = np.random.default_rng(0).uniform(low, 1, (10, 4)).astype(np.float32)
    Pool(x).save(tmp_path / "pool.npz")
    same(Pool.load(tmp_path / "pool.npz"), Pool(x))


def test_every_byte_comes_back(tmp_path):
    every = Pool(bytes_to_rows(np.arange(256, dtype=np.uint8)[:, None]))
    every.save(tmp_path / "pool.npz")
    same(Pool.load(tmp_path / "pool.npz"), every)


def test_taking_keeps_rows_with_their_labels():
    whole, some = pool(), pool().take([7, 2])
    np.testing.assert_array_equal(some.x, whole.x[[7, 2]])
    np.testing.assert_array_equal(some.y, whole.y[[7, 2]])
    same(whole.take(slice(3)), whole.take([0, 1, 2]))
    assert len(whole.take(np.arange(10) < 4)) == 4
    assert Pool(whole.x).take([1]).y is None


def test_the_fingerprint_is_that_of_everything():
    whole = pool()
    others = [
        whole.take(slice(9)),
        Pool(whole.x, whole.y),
        Pool(whole.x),
        Pool(whole.x, 1 - whole.y, ("cat", "dög")),
    ]
    others.append(Pool(1 - whole.x, whole.y, whole.class_names))
    assert len({whole.fingerprint, *(other.fingerprint for other in others)}) == 6
    assert pool().fingerprint == whole.fingerprint


def write(path, **arrays):
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("arrays", "fault"),
    [
        ({"y": np.zeros(2, np.int64)}, 'no "x"'),
        ({"x": np.zeros((2, 3))}, r"rows must be .* float32, not \(2, 3\) float64"),
        ({"x": np.zeros(2, np.float32)}, "rows must be"),
        ({"x": np.full((2, 3), np.nan, np.float32)}, "finite"),
        (
            {"x": np.zeros((2, 3), np.float32), "y": np.zeros(3, np.int64)},
            r"labels must be \(2,\) int64, not \(3,\)",
        ),
        ({"x": np.zeros((2, 3), np.float32), "y": np.zeros(2)}, "labels must be"),
        (
            {"x": np.zeros((1, 3), np.float32), "y": np.array([2]), "class_names": np.array(["a", "b"])},
            "2 classes",
        ),
        ({"x": np.zeros((1, 3), np.float32), "y": np.array([-1])}, "negative"),
        ({"x": np.zeros((1, 3), np.float32), "class_names": np.array([1])}, "class_names"),
        ({"x": np.array([[None]], dtype=object)}, "not a valid .npz file of rows"),
    ],
)
def test_a_broken_file_is_named(tmp_path, arrays, fault):
    path = write(tmp_path / "pool.npz", **arrays)
    with pytest.raises(BadInput, match=rf"pool\.npz: .*{fault}"):
        Pool.load(path)


@pytest.mark.parametrize("content", [b"", b"rows", b"PK\x03\x04", b"\x80\x04N."])
def test_a_file_of_another_kind_is_named(tmp_path, content):
    (tmp_path / "pool.npz").write_bytes(content)
    with pytest.raises(BadInput, match=r"pool\.npz: not a valid \.npz file of rows"):
        Pool.load(tmp_path / "pool.npz")


def test_a_lone_array_is_named(tmp_path):
    with (tmp_path / "pool.npz").open("wb") as file:
        np.save(file, np.zeros((2, 3), np.float32))
    with pytest.raises(BadInput, match=r"pool\.npz: not a valid \.npz file of rows"):
        Pool.load(tmp_path / "pool.npz")


def test_a_file_cut_short_is_named(tmp_path):
    pool().save(tmp_path / "pool.npz")
    (tmp_path / "pool.npz").write_bytes((tmp_path / "pool.npz").read_bytes()[:-40])
    with pytest.raises(BadInput, match=r"pool\.npz: not a valid \.npz file of rows"):
        Pool.load(tmp_path / "pool.npz")


@pytest.mark.parametrize("name", ["nowhere.npz", "."])
def test_a_path_that_is_no_file_is_named(tmp_path, name):
    with pytest.raises(BadInput, match=r"no such file|not a valid \.npz file of rows"):
        Pool.load(tmp_path / name)


def table(**changes):
    x = np.array([[1.5, 0, np.nan], [np.nan, 2, -3]], np.float32)
    features = (Feature("age"), Feature("wörk", ("a", "b", "c")), Feature("gain"))
    return Pool(
        **{"x": x, "y": np.array([0, 1]), "class_names": ("n", "y"), "missing": True}
        | {"features": features}
        | changes
    )


def test_a_table_comes_back(tmp_path):
    table().save(tmp_path / "pool.npz")
    loaded = Pool.load(tmp_path / "pool.npz")
    same(loaded, table())
    assert (loaded.missing, loaded.features) == (True, table().features)
    assert table().take([1]).features == table().features and table().take([1]).missing
    assert loaded.fingerprint == table().fingerprint != table(features=()).fingerprint


STRANGE = ["plain", "ümläut\0", "", "a\nb", "🎬"]


def test_texts_come_back_to_the_last_character(tmp_path):
    pool = Pool(texts(STRANGE), np.zeros(5, np.int64), ("a", "b"))
    pool.save(tmp_path / "pool.npz")
    loaded = Pool.load(tmp_path / "pool.npz")
    assert loaded.x.tolist() == STRANGE and loaded.x.dtype == object
    assert (loaded.input_shape, loaded.dtype, loaded.fingerprint) == ((), "BYTES", pool.fingerprint)
    assert pool.take([4, 0]).x.tolist() == ["🎬", "plain"]
    assert pool.take([0]).fingerprint != pool.take([1]).fingerprint


@pytest.mark.parametrize(
    ("made", "fault"),
    [
        (lambda: table(missing=False), "rows must be finite"),
        (lambda: table(x=np.full((2, 3), np.inf, np.float32)), "finite, or NaN where a feature is missing"),
        (lambda: table(x=np.zeros((2, 4), np.float32)), r"3 features must be \(n, 3\), not \(2, 4\)"),
        (lambda: table(x=np.full((2, 3), 3, np.float32)), "feature 'wörk' holds 3; expected codes from 0 to 2"),
        (lambda: table(x=np.full((2, 3), 0.5, np.float32)), "feature 'wörk' holds 0.5"),
        (lambda: Pool(np.array(["a", 3], dtype=object)), "texts must be"),
        (lambda: Pool(np.array([["a"]], dtype=object)), "texts must be"),
        (lambda: Pool(texts(["a"]), missing=True), "texts must be"),
    ],
)
def test_tables_and_texts_without_sense_are_refused(made, fault):
    with pytest.raises(ValueError, match=fault):
        made()


def test_texts_that_are_no_unicode_are_refused(tmp_path):
    with pytest.raises(BadInput, match="texts must be Unicode"):
        Pool(texts(["\ud800"])).save(tmp_path / "pool.npz")


@pytest.mark.parametrize(
    "arrays",
    [
        {"texts": np.frombuffer(b"[1]", np.uint8)},
        {"texts": np.frombuffer(b"[", np.uint8)},
        {"x": np.zeros((1, 1), np.float32), "table": np.frombuffer(b'{"features": [1]}', np.uint8)},
    ],
)
def test_broken_tables_and_texts_are_named(tmp_path, arrays):
    with pytest.raises(BadInput, match=r"pool\.npz: "):
        Pool.load(write(tmp_path / "pool.npz", **arrays))


def test_the_range_is_told_where_all_rows_keep_to_it():
    assert pool().bounds == (0, 1)
    assert table().bounds == Pool(texts(["a"])).bounds == (None, None)
    assert Pool(np.array([[0, np.nan, 1]], np.float32), missing=True).bounds == (0, 1)
