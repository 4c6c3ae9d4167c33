import gzip
import socket
from urllib.error import URLError

import numpy as np
import pytest

from wire import BadInput
from zoo import data
from zoo.data import Missing, idx

NAMES = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]


def idx_bytes(array):
    """Returns a file in the IDX format: 0, 0, 8 (unsigned bytes), the number of axes, their lengths, the data."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()


def write_set(folder, seed=0, zipped=True):
    """Writes a tiny set of four idx files; returns its images and labels, training rows first."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    images, labels = rng.integers(0, 256, (10, 28, 28), np.uint8), rng.integers(0, 10, 10).astype(np.uint8)
    for name, array in zip(NAMES, (images[:6], labels[:6], images[6:], labels[6:]), strict=True):
        content = idx_bytes(array)
        (folder / (name + ".gz" * zipped)).write_bytes(gzip.compress(content) if zipped else content)
    return images, labels


@pytest.fixture
def downloads(monkeypatch, tmp_path):
    """Has neither Debian's package nor a network; returns the addresses that were tried."""
    from zoo import vision  # here, since importing it takes seconds

    tried = []

    def unreachable(url, **_):
        tried.append((url, socket.getdefaulttimeout()))
        raise URLError("no network")

    monkeypatch.setattr(vision.datasets.mnist, "download_and_extract_archive", unreachable)
    monkeypatch.setattr(idx, "DEBIAN", tmp_path / "no-package")
    return tried


def check(found, images, labels):
    np.testing.assert_array_equal(found.pool.x, (images[:, None] / np.float32(255)).astype(np.float32))
    np.testing.assert_array_equal(found.pool.y, labels)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("fashion_mnist", "FashionMNIST/raw"),
        ("fashion_mnist", "fashion_mnist"),
        ("fashion_mnist", "fashion-mnist"),
        ("fashion_mnist", "."),
        ("mnist", "MNIST/raw"),
        ("mnist", "mnist"),
        ("mnist", "."),
    ],
)
def test_the_data_folder_may_be_laid_out_in_these_ways(tmp_path, downloads, name, place, zipped):
    images, labels = write_set(tmp_path / "data" / place, zipped=zipped)
    found = data.load(name, tmp_path / "data", tmp_path / "cache")
    check(found, images, labels)
    assert found.name == name
    assert len(found.pool.class_names) == 10
    assert downloads == []


def test_the_data_folder_comes_before_debians_package_and_that_before_a_download(tmp_path, downloads, monkeypatch):
    monkeypatch.setattr(idx, "DEBIAN", tmp_path / "debian")
    with pytest.raises(Missing):
        data.load("fashion_mnist", None, tmp_path / "cache")
    assert len(downloads) == 1

    packaged = write_set(tmp_path / "debian", seed=1)
    (tmp_path / "data").mkdir()
    check(data.load("fashion_mnist", tmp_path / "data", tmp_path / "cache"), *packaged)

    own = write_set(tmp_path / "data" / "fashion_mnist", seed=2)
    check(data.load("fashion_mnist", tmp_path / "data", tmp_path / "cache"), *own)
    check(data.load("fashion_mnist", None, tmp_path / "cache"), *packaged)
    assert len(downloads) == 1


def test_debians_package_holds_no_mnist(tmp_path, downloads, monkeypatch):
    monkeypatch.setattr(idx, "DEBIAN", tmp_path / "debian")
    write_set(tmp_path / "debian")
    with pytest.raises(Missing):
        data.load("mnist", None, tmp_path / "cache")


def test_the_files_of_another_set_are_not_taken(tmp_path, downloads, monkeypatch):
    write_set(tmp_path / "data")
    content = gzip.decompress((tmp_path / "data" / "t10k-labels-idx1-ubyte.gz").read_bytes())
    monkeypatch.setitem(idx._TEST_LABELS, "mnist", idx.hashlib.sha256(content).hexdigest())
    assert data.load("mnist", tmp_path / "data", tmp_path / "cache").name == "mnist"
    with pytest.raises(Missing):
        data.load("fashion_mnist", tmp_path / "data", tmp_path / "cache")


def test_changed_files_are_read_anew(tmp_path, downloads):
    write_set(tmp_path / "data")
    data.load("mnist", tmp_path / "data", tmp_path / "cache")
    changed = write_set(tmp_path / "data", seed=1)
    check(data.load("mnist", tmp_path / "data", tmp_path / "cache"), *changed)


def test_a_file_that_is_missing_is_named(tmp_path, downloads):
    write_set(tmp_path / "data")
    (tmp_path / "data" / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(BadInput, match="neither train-labels-idx1-ubyte nor"):
        data.load("mnist", tmp_path / "data", tmp_path / "cache")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "content", [b"", b"\x1f\x8b", gzip.compress(b"", mtime=0), gzip.compress(b"no idx file at all", mtime=0)]
)
def test_broken_files_are_refused_and_leave_nothing(tmp_path, downloads, name, content):
    write_set(tmp_path / "data")
    (tmp_path / "data" / f"{name}.gz").write_bytes(content)
    with pytest.raises(BadInput, match="data"):
        data.load("mnist", tmp_path / "data", tmp_path / "cache")
    repaired = write_set(tmp_path / "data", seed=3)
    check(data.load("mnist", tmp_path / "data", tmp_path / "cache"), *repaired)


def test_images_and_labels_must_match(tmp_path, downloads):
    write_set(tmp_path / "data")
    (tmp_path / "data" / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(np.zeros(5, np.uint8))))
    with pytest.raises(BadInput, match=r"labels must be \(10,\)"):
        data.load("mnist", tmp_path / "data", tmp_path / "cache")


def test_a_download_that_fails_says_what_to_do_and_leaves_nothing(tmp_path, downloads):
    with pytest.raises(Missing, match=r"fashion_mnist: .*no network.*dataset-fashion-mnist.*MLAAS_DATA") as error:
        data.load("fashion_mnist", None, tmp_path / "cache")
    assert "\n" not in str(error.value)
    assert all(timeout is not None for _, timeout in downloads)
    assert socket.getdefaulttimeout() is None
    assert list((tmp_path / "cache" / "datasets").glob("[!.]*")) == []


def test_a_download_is_kept(tmp_path, downloads, monkeypatch):
    def reachable(url, download_root, filename, md5):
        nonlocal count
        count += 1
        content = (tmp_path / "far" / filename).read_bytes()
        (tmp_path / download_root / filename.removesuffix(".gz")).write_bytes(gzip.decompress(content))

    count = 0
    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", reachable)
    images, labels = write_set(tmp_path / "far")
    for _ in range(2):
        check(data.load("mnist", None, tmp_path / "cache"), images, labels)
    assert count == 4


def test_where_nothing_can_be_reached_the_digits_stand_in(tmp_path, downloads):
    found, line = data.load_or_digits("fashion_mnist", None, tmp_path / "cache")
    assert (found.name, found.pool.x.shape) == ("mnist_digits", (5000, 1, 28, 28))
    assert line is not None
    assert "\n" not in line
    for word in ("fashion_mnist", "dataset-fashion-mnist", "MLAAS_DATA", "5,000 MNIST digits"):
        assert word in line


def test_a_set_that_is_there_needs_no_stand_in(tmp_path, downloads):
    write_set(tmp_path / "data")
    found, line = data.load_or_digits("fashion_mnist", tmp_path / "data", tmp_path / "cache")
    assert (found.name, line) == ("fashion_mnist", None)


def test_a_broken_set_is_told_and_not_stood_in_for(tmp_path, downloads):
    write_set(tmp_path / "data")
    (tmp_path / "data" / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(BadInput, match="train-labels"):
        data.load_or_digits("fashion_mnist", tmp_path / "data", tmp_path / "cache")
