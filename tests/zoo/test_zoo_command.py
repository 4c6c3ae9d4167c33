import json
import subprocess
import sys

import numpy as np
import pytest

from wire import BadInput
from wire.command import run
from zoo.__main__ import main
from zoo.data import DATASETS, Missing, Pool
from zoo.folder import read_card
from zoo.mlp import Mlp


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Returns a folder with the roles of scikit-learn's digits."""
    monkeypatch.setenv("MLAAS_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("MLAAS_DATA", raising=False)
    main(["roles", "digits", "--out", str(tmp_path / "roles"), "--seed", "3"])
    return tmp_path / "roles"


def test_roles_are_written_and_told(drawn, capsys):
    sizes = {path.stem: len(Pool.load(path)) for path in drawn.glob("*.npz") if path.stem != "truth"}
    roles = {"victim": 513, "unseen": 128, "pool": 256, "shadow": 256, "control": 513, "evaluation": 128}
    assert sizes == {**roles, "candidates": 256}
    main(["roles", "digits", "--out", str(drawn), "--seed", "3"])  # again: they are found
    assert str(drawn / "victim.npz") in capsys.readouterr().out


def test_the_seed_changes_the_roles(drawn, tmp_path):
    main(["roles", "digits", "--out", str(tmp_path / "others"), "--seed", "4"])
    one, other = (Pool.load(folder / "victim.npz") for folder in (drawn, tmp_path / "others"))
    assert not np.array_equal(one.x, other.x)


def test_without_a_name_the_digits_stand_in(drawn, tmp_path, monkeypatch, capsys):
    def nowhere(*given):
        raise Missing("fashion_mnist: nowhere")

    monkeypatch.setitem(DATASETS, "fashion_mnist", nowhere)
    main(["roles", "--out", str(tmp_path / "others")])
    assert capsys.readouterr().err == "fashion_mnist: nowhere; going on with 5,000 MNIST digits\n"
    assert len(Pool.load(tmp_path / "others" / "victim.npz")) == 5000 * 20 // 70


def test_a_model_is_trained_evaluated_and_described(drawn, tmp_path, capsys):
    model, options = str(tmp_path / "model"), ["--family", "mlp", "--mlp-hidden", "32", "16", "--epochs", "20"]
    main(["train", str(drawn / "victim.npz"), "--out", model, *options])
    card = read_card(tmp_path / "model")
    assert card.built() == Mlp(hidden=(32, 16))
    assert card.training.epochs == 20
    assert card.about == {"seed": 0, "rows": 513}

    capsys.readouterr()
    main(["evaluate", model, str(drawn / "evaluation.npz")])
    told = capsys.readouterr().out.split()
    assert (told[0], told[-2:]) == ("accuracy", ["128", "rows"])
    assert float(told[1]) > 0.8

    main(["card", model])
    assert json.loads(capsys.readouterr().out)["family"] == "mlp"


def test_rows_of_another_shape_are_not_evaluated(drawn, tmp_path):
    main(
        ["train", str(drawn / "victim.npz"), "--family", "softmax", "--epochs", "0", "--out", str(tmp_path / "m")]
    )
    Pool(np.zeros((3, 5), np.float32), np.zeros(3, np.int64), ("a", "b")).save(tmp_path / "other.npz")
    with pytest.raises(BadInput, match=r"takes rows \(1, 8, 8\) .* but .*other\.npz has rows \(5,\)"):
        main(["evaluate", str(tmp_path / "m"), str(tmp_path / "other.npz")])


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["roles", "nothing", "--out", "out"], "no data set 'nothing'"),
        (["train", "nowhere.npz", "--out", "out"], "nowhere.npz: no such file"),
        (["train", "nowhere.npz", "--out", "out", "--family", "forest"], "invalid choice: 'forest'"),
        (["card", "nowhere"], "card.json: No such file"),
        ([], "required: COMMAND"),
    ],
)
def test_a_wrong_option_is_one_line_and_status_2(arguments, fault, capsys):
    with pytest.raises(SystemExit) as ended:
        run(main, arguments)
    told = capsys.readouterr().err
    assert ended.value.code == 2
    assert fault in told
    assert told.count("\n") == 1


def test_the_package_is_a_command(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "zoo", "card", "nowhere"], capture_output=True, text=True, cwd=tmp_path
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: nowhere/card.json")
