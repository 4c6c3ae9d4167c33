import tomllib

import numpy as np
import pytest
from parts import SHAPE, configured

from defenses import DETECTORS, Prada
from server.command import main
from server.commands.calibrate import CALIBRATED
from server.layer_tables import defense_of
from wire import BadInput
from zoo import folder
from zoo.data.pool import Pool
from zoo.families import FAMILIES
from zoo.network import Network
from zoo.training import Training


@pytest.fixture(scope="module")
def place(tmp_path_factory, network, cache):
    """A folder with a configuration, harmless rows, and a victim that kept its checkpoints."""
    path = tmp_path_factory.mktemp("calibrated")
    config = configured(path, network, cache)
    rng = np.random.default_rng(0)
    Pool(rng.random((4800, *SHAPE), np.float32)).save(path / "rows.npz")
    deep = Network.new(FAMILIES["mlp"](hidden=(16,)), SHAPE, tuple("abc"), seed=0, device="cpu")
    x = rng.random((300, *SHAPE), np.float32)
    deep.fit(x, (x[:, 0, 0, 0] * 3).astype(np.int64), Training(epochs=12, lr=1e-2, checkpoints=11), seed=0)
    folder.save(deep, path / "deep")
    other = Network.new(FAMILIES["mlp"](hidden=(4,)), SHAPE, ("own", "other"), seed=3, device="cpu")
    folder.save(other, path / "filter")
    with config.open("a") as file:
        for name, of in (("plain", "net"), ("deep", "deep"), ("bytes", "net"), ("watched", "net")):
            file.write(f'[[victims]]\nname = "{name}"\nfolder = "{of}"\nengine = "torch"\n')
            file.write('dtype = "UINT8"\n' if name == "bytes" else "")
        file.write('defenses = [{ type = "prada", delta = 0.5, interval = 5, reaction = "slow" }]\n')
    return path


def calibrated(place, capsys, victim, *flags, detector="prada"):
    """Runs the command; returns what it said and the table that it printed."""
    sizes = ["--streams", "16", "--stream", "150", *map(str, flags)]
    rows = ["--rows", str(place / "rows.npz"), "--config", str(place / "range.toml")]
    main(["calibrate", victim, "--detector", detector, *rows, *sizes])
    text = capsys.readouterr().out
    return text, tomllib.loads("layer = " + text.splitlines()[-1])["layer"]


def test_delta_accuses_the_stated_share_of_harmless_streams_that_it_has_not_seen(place, capsys, network):
    rng = np.random.default_rng(1)
    streams = [rng.random((150, *SHAPE), np.float32) for _ in range(40)]
    least = np.array([Prada(0.0).lowest(x, network.predict(x).argmax(axis=1)) for x in streams])
    _, strict = calibrated(place, capsys, "plain", "--fpr", 0)
    text, loose = calibrated(place, capsys, "plain", "--fpr", 0.5)
    assert set(loose) == {"type", "delta"}
    assert (least < strict["delta"]).mean() < 0.25 < (least < loose["delta"]).mean() < 0.75
    accused = int(text.partition("held out: ")[2].split()[0])
    assert 3 <= accused <= 13
    assert f"held out: {accused} of 16 other streams accused" in text and "95 % interval" in text
    assert "share rows" not in text
    assert "share rows" in calibrated(place, capsys, "plain", "--streams", 17)[0]


def test_the_printed_table_is_the_victim_s_own_with_another_delta(place, capsys):
    _, table = calibrated(place, capsys, "watched", "--set", "interval = 10")
    assert {**table, "delta": 0} == {"type": "prada", "interval": 10, "reaction": "slow", "delta": 0}
    watch = defense_of(table)
    assert watch.detector == Prada(table["delta"], interval=10)


def test_a_detector_that_asks_checkpoints_is_calibrated_likewise(place, capsys):
    text, table = calibrated(place, capsys, "deep", "--set", "rows = 50", detector="hoda")
    assert len(table["benign"]) == 11 and sum(table["benign"]) == pytest.approx(1, abs=1e-4)
    assert 0 < table["delta"] < 2 and table["rows"] == 50
    assert defense_of(table).detector.delta == table["delta"]
    assert "of 16 other streams" in text


def test_a_folder_is_sought_beside_the_configuration_and_printed_in_full(place, capsys):
    flags = ("--set", "folder=filter", "--set", "rows = 100")
    _, table = calibrated(place, capsys, "plain", *flags, detector="ood")
    assert table["folder"] == str(place / "filter") and set(table) == {"type", "folder", "rows", "delta"}


@pytest.mark.parametrize(
    ("victim", "flags", "fault"),
    [
        ("shut", (), "no victim 'shut'; there are open"),
        ("plain", ("--stream", 2401), "4800 rows; expected at least 4802"),
        ("plain", ("--set", "interval 3"), "FIELD=VALUE"),
        ("plain", ("--set", "colour = 3"), "no field 'colour'"),
        ("plain", ("--fpr", 1), "at least 0 and less than 1"),
        ("plain", ("--stream", 50), "a test needs at least 102 rows"),
        ("bytes", (), "multiples of 1/255"),
    ],
)
def test_what_cannot_be_calibrated_is_named(place, capsys, victim, flags, fault):
    with pytest.raises(BadInput, match=fault):
        calibrated(place, capsys, victim, *flags)
    with pytest.raises(BadInput, match="the rows have shape"):
        Pool(np.zeros((10, 3), np.float32)).save(place / "others.npz")
        calibrated(place, capsys, "plain", "--rows", place / "others.npz")


def test_a_detector_without_a_threshold_to_choose_is_refused(place, capsys, monkeypatch):
    assert set(CALIBRATED) == set(DETECTORS)  # of ours all have one
    monkeypatch.delitem(CALIBRATED, "prada")
    with pytest.raises(BadInput, match="prada has no threshold that calibrate chooses; these have: hoda"):
        calibrated(place, capsys, "plain")
