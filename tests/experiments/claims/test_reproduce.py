"""Claims at tiny sizes, on the digits that scikit-learn carries, over HTTP."""

import json
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from PIL import Image

from experiments.__main__ import main
from experiments.claims import CLAIMS, streams
from experiments.claims.claim import Findings, over_seeds, share
from experiments.claims.command import reproduce, sized, table
from experiments.claims.prada_detection import B1
from experiments.claims.prada_hoda import B2
from wire import BadInput
from zoo.training import Training

TINY_B1 = B1(
    data=("digits",),
    family="mlp",
    deltas=(0.95,),
    points=60,
    long=200,
    budget=320,
    seeds=40,
    epochs=(4,),
    stream=150,
    draws=2,
    tracks=6,
    frames=30,
)
TINY_B2 = B2(
    data=("digits",),
    family="mlp",
    natural=("cifar10",),
    deltas=(0.95,),
    budget=300,
    jbda=300,
    lengths=(50,),
    sequences=10,
    accounts=(1, 4),
    hoda=50,
)


def reproduced(base, claim):
    found = reproduce({claim.ID: claim}, out=base / "out", cache=base / "cache", data=base, seeds=range(1))
    return json.loads(json.dumps(found))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return reproduced(tmp_path_factory.mktemp("reproduce"), TINY_B1)


def rows(results, claim, what):
    return [row for row in results["claims"][claim]["rows"] if what in row["what"]]


def test_b1_attacks_are_detected_over_http_as_by_the_same_detector_in_process(results):
    found = results["claims"]["B1"]
    synthetic = rows(results, "B1", "JbDA") + rows(results, "B1", "T-RND")
    assert len(synthetic) == 2 * (2 + 2 * 2)
    assert any(row["measured"] is not None for row in synthetic)
    assert all(row["measured"] is None or 40 < row["measured"] <= 320 for row in synthetic)
    assert "none of them with another alarm" in found["notes"][0]


def test_b1_false_positives_are_told_with_their_interval_for_four_streams(results):
    accused = rows(results, "B1", "streams accused")
    assert {row["what"].partition(":")[0] for row in accused} == set(results["claims"]["B1"]["streams"])
    assert all(row["low"] <= row["measured"] <= row["high"] and row["baseline"] for row in accused)
    least = results["claims"]["B1"]["more"]["least W of harmless streams"]
    assert len(least) == 8 and all(len(of) == 2 and 0 < min(of) < max(of) <= 1 for of in least.values())


@pytest.mark.slow
def test_b2_tells_detectors_on_sequences_and_accounts_that_share_an_attack(tmp_path):
    rng = np.random.default_rng(0)
    for kind in ("cat", "dog"):  # as CIFAR-10's images may lie in a data folder
        (tmp_path / "cifar10" / kind).mkdir(parents=True)
        for number in range(150):
            smooth = rng.random((4, 4, 3)).repeat(8, axis=0).repeat(8, axis=1)
            Image.fromarray((255 * smooth).astype(np.uint8)).save(tmp_path / "cifar10" / kind / f"{number}.png")
    found = reproduced(tmp_path, TINY_B2)["claims"]["B2"]
    told = {(row["setting"].split(",")[1].strip(), row["what"]): row for row in found["rows"]}
    assert told["HODA", "Knockoff, cifar10 images: sequences accused"]["measured"] > 0.5
    assert told["HODA", "harmless, held out: sequences accused"]["measured"] <= 0.5
    alone = told["PRADA", "JbDA, 300 rows: accounts accused of 1"]
    split = told["PRADA", "JbDA, 300 rows: accounts accused of 4"]
    assert (alone["measured"], alone["spread"]) == (1, "exact 95 % interval, 1 of 1")
    assert split["measured"] == 0 and split["spread"].endswith("of 4")
    assert told["HODA", "Knockoff, cifar10 images: rows until the alarm"]["measured"] % 50 == 0


def test_published_and_measured_stand_side_by_side(results):
    text = table(results)
    for claim in results["claims"].values():
        assert claim["says"][:40] in text
        assert claim["victims"] and claim["streams"] and claim["seconds"] > 0
        for row in claim["rows"]:
            assert row["what"] in text
    assert results["seeds"] == [0] and "torch" in results["versions"]
    assert {name: claim.ID for name, claim in CLAIMS.items()} == {name: name for name in CLAIMS}


@dataclass(frozen=True)
class Counted:
    """A claim that needs no server."""

    ID, SAYS, SOURCE = "X1", "There are three seeds", "a paper"

    def run(self, lab):
        finding = over_seeds("seeds", "a setting", "3 rows", dict.fromkeys(lab.seeds, 5.0), baseline="none")
        return Findings((finding,), {"a stream": "nothing"}, {"a victim": "nobody"}, ("a note",))


@dataclass(frozen=True)
class Failing:
    """A claim without its data."""

    def run(self, lab):
        raise BadInput("its data is not there")


def test_the_command_prints_and_keeps_what_was_found_though_a_later_claim_fails(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(CLAIMS.targets, "B1", f"{__name__}:Counted")
    monkeypatch.setitem(CLAIMS.targets, "B2", f"{__name__}:Failing")
    flags = ["--json", str(tmp_path / "found.json"), "--seeds", "2", "--state", str(tmp_path)]
    with pytest.raises(BadInput, match="its data"):
        main(["reproduce", "B1", "B2", *flags])
    assert list(json.loads((tmp_path / "found.json").read_text())["claims"]) == ["B1"]
    main(["reproduce", "B1", *flags])
    lines = capsys.readouterr().out.splitlines()
    (row,) = [line.split() for line in lines if line.startswith("  seeds")]
    assert row[:5] == ["seeds", "3", "rows", "5", "rows"] and "- a note" in lines
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["seeds"], list(found["claims"])) == ([0, 1], ["B1"])


def test_what_was_not_reached_counts_as_the_greatest():
    finding = over_seeds("rows", "a setting", "120 rows", {0: 110, 1: None, 2: 130}, baseline="none")
    assert (finding.measured, finding.low, finding.high) == (130, 110, None)
    assert over_seeds("rows", "a setting", "none", {0: None}, baseline="none").measured is None
    rate = share("streams", "a setting", "0.0%", 0, 24, seeds=(0, 1), baseline="none")
    assert (rate.measured, rate.low) == (0, 0) and rate.high == pytest.approx(1 - 0.025 ** (1 / 24))


def test_streams_are_of_8_bit_images_and_frames_resemble_the_frame_before():
    rng = np.random.default_rng(0)
    images = np.zeros((4, 1, 28, 28), np.float32)
    images[:, :, 8:20, 10:18] = rng.random((4, 1, 12, 8))
    filmed = streams.tracks(rng, images, 10)
    drawn = (streams.uniform(rng, 30, (1, 28, 28)), streams.rescanned(images), filmed)
    coloured = rng.random((5, 3, 32, 32)).astype(np.float32)
    resized = streams.enlarged(images[:, :, :8, :8], (1, 28, 28)), streams.grey(coloured, (1, 28, 28))
    for x in (*drawn, *resized):
        assert x.dtype == np.float32 and x.shape[1:] == (1, 28, 28)
        assert (np.rint(x * 255) / np.float32(255) == x).all() and x.min() >= 0 and x.max() <= 1
    flat = filmed.reshape(4, 10, -1)
    within = np.linalg.norm(np.diff(flat, axis=1), axis=2).max()
    between = np.linalg.norm(flat[1:, 0] - flat[:-1, -1], axis=1).min()
    assert 0 < within < between
    assert math.isclose(drawn[0].mean(), 0.5, abs_tol=0.01)


def test_a_claim_takes_other_sizes():
    changed = sized(B1(), ["long=200", 'data=["digits"]', "deltas=[1, 0.5]"])
    assert (changed.long, changed.data, changed.deltas) == (200, ("digits",), (1, 0.5))
    assert sized(CLAIMS["A6"](), ['training={"epochs": 3}', "family=mlp"]).training == Training(epochs=3)
    inner = sized(CLAIMS["C8"](), ['sizes={"hidden": [64], "training": {"epochs": 3}}']).sizes
    assert inner.hidden == (64,) and inner.training == replace(CLAIMS["C8"]().sizes.training, epochs=3)
    for wrong in ("length=3", "long", "long=many", "data=digits", 'data=[["digits"]]'):
        with pytest.raises(BadInput, match="expected"):
            sized(B1(), [wrong])
    with pytest.raises(BadInput, match="expected a value like"):
        sized(CLAIMS["A6"](), ['training={"epoch": 3}'])
