"""Calibration on streams of several accounts, of which some query a single class."""

import tomllib

import numpy as np
import pytest
from parts import SHAPE, configured

from defenses import Prada
from server.command import main
from server.commands.harmless import Harmless
from server.layer_tables import defense_of
from wire import BadInput, Card
from zoo import folder
from zoo.data.pool import Pool
from zoo.families import FAMILIES
from zoo.network import Network
from zoo.training import Training

CARD = Card("m", SHAPE, 3)


@pytest.fixture(scope="module")
def place(tmp_path_factory, network, cache):
    """A victim that kept its checkpoints, and files of accounts: mixed ones, and ones with one class."""
    path = tmp_path_factory.mktemp("accounts")
    config = configured(path, network, cache)
    rng = np.random.default_rng(0)
    victim = Network.new(FAMILIES["mlp"](hidden=(16,)), SHAPE, tuple("abc"), seed=0, device="cpu")
    x = rng.random((600, *SHAPE), np.float32)
    victim.fit(x, (x[:, 0, 0, 0] * 3).astype(np.int64), Training(epochs=12, lr=1e-2, checkpoints=11), seed=0)
    folder.save(victim, path / "deep")
    with config.open("a") as file:
        file.write('[[victims]]\nname = "deep"\nfolder = "deep"\nengine = "torch"\n')
    pool = rng.random((9000, *SHAPE), np.float32)
    labels = victim.predict(pool).argmax(axis=1)
    mixed = [rng.choice(9000, 100, replace=False) for _ in range(24)]
    single = [rng.choice(np.flatnonzero(labels == i % 3), 100) for i in range(12)]
    for kind, accounts in (("mixed", mixed), ("one-class", single)):
        order = np.argsort(np.tile(np.arange(100), len(accounts)), kind="stable")  # the accounts take turns
        names = np.repeat([f"{kind}-{i}" for i in range(len(accounts))], 100)
        np.savez(path / f"{kind}.npz", x=pool[np.concatenate(accounts)][order], account=names[order])
    for i, rows in enumerate(mixed[:6]):
        Pool(pool[rows]).save(path / "apart" / f"{i}.npz")
    return path


def calibrated(place, capsys, *files, detector="hoda", flags=()):
    rows = ["--rows", *(str(place / name) for name in files)]
    fields = ["--set", "rows = 50"] if detector == "hoda" else ["--set", "enough = 30"]
    config = ["--config", str(place / "range.toml")]
    main(["calibrate", "deep", "--detector", detector, *rows, *config, *fields, *map(str, flags)])
    text = capsys.readouterr().out
    return text.splitlines(), tomllib.loads("layer = " + text.splitlines()[-1])["layer"]


def test_the_streams_are_those_of_the_accounts_in_their_order(place):
    found = Harmless.read([place / "mixed.npz", place / "one-class.npz"], CARD)
    assert {kind: len(streams) for kind, streams in found.kinds().items()} == {"mixed": 24, "one-class": 12}
    first = np.load(place / "mixed.npz")
    expected = first["x"][first["account"] == "mixed-10"]
    streams = [found.x[stream.rows] for stream in found.kinds()["mixed"]]
    assert sum(np.array_equal(stream, expected) for stream in streams) == 1
    apart = Harmless.read(sorted((place / "apart").glob("*.npz")), CARD)
    assert [(stream.kind, len(stream.rows)) for stream in apart.streams] == [("apart", 100)] * 6
    assert Harmless.read([place / "apart" / "0.npz"], CARD).streams == []


def test_customers_with_one_class_are_accused_unless_they_are_in_the_calibration(place, capsys):
    _, without = calibrated(place, capsys, "mixed.npz")
    lines, both = calibrated(place, capsys, "mixed.npz", "one-class.npz")
    assert lines[2].startswith("  mixed: ") and "of 12 accounts accused" in lines[2]
    assert lines[3].startswith("  one-class: ") and "of 6 accounts accused" in lines[3]
    assert both["delta"] >= without["delta"]
    accused = sum(int(line.partition(": ")[2].split()[0]) for line in lines[2:4])
    assert f"held out: {accused} of 18 other streams accused" in lines[1]
    assert defense_of(both).detector.delta == both["delta"]


def test_the_share_holds_of_each_kind(place, capsys):
    """One tenth of 18 accounts would be one, which may be a sixth of a kind."""
    lines, table = calibrated(place, capsys, "mixed.npz", "one-class.npz", detector="prada", flags=["--fpr", 0.1])
    found = Harmless.read([place / "mixed.npz", place / "one-class.npz"], CARD)
    chosen, _ = found.halves(np.random.default_rng(0))
    victim = folder.load(place / "deep", "cpu")
    detector = Prada(table["delta"], enough=30)
    for stream in chosen:
        x = found.x[stream.rows]
        assert detector.observe(detector.begin(), x, victim.predict(x).argmax(axis=1)).alarm is None
    assert "at most 10.00% of 18 streams" in lines[0]


def test_a_detector_of_all_accounts_is_counted_by_kind_too(place, capsys):
    np.savez(place / "reference.npz", x=np.random.default_rng(9).random((300, *SHAPE), np.float32))
    flags = ["--set", f'reference = "{place / "reference.npz"}"', "--set", "window = 500", "--set", "share = 0.02"]
    rows = ["--rows", str(place / "mixed.npz"), str(place / "one-class.npz")]
    main(["calibrate", "deep", "--detector", "sybils", *rows, "--config", str(place / "range.toml"), *flags])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[2:4]] == ["  mixed", "  one-class"]


def test_what_is_wrong_is_named(place, capsys):
    np.savez(place / "few.npz", x=np.zeros((3, *SHAPE), np.float32), account=np.array(["a", "b"]))
    with pytest.raises(BadInput, match=r"few.npz: account must be \(3,\) strings"):
        Harmless.read([place / "few.npz"], CARD)
    np.savez(place / "one.npz", x=np.zeros((3, *SHAPE), np.float32), account=np.array(["a"] * 3))
    with pytest.raises(BadInput, match="one account of the kind 'one'; expected two"):
        calibrated(place, capsys, "mixed.npz", "one.npz")
