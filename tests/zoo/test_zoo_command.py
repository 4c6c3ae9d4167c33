import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from kinds import KINDS
from safetensors.torch import save_file

from cli.command import run
from cli.train import main
from wire import BadInput
from zoo import folder
from zoo.data import DATASETS, Missing, Pool
from zoo.families import FAMILIES, name_of
from zoo.families.mlp import Mlp
from zoo.folder import read_card
from zoo.recipe import READY


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Returns a folder with the roles of scikit-learn's digits."""
    monkeypatch.setenv("MLAAS_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("MLAAS_DATA", raising=False)
    main(["roles", "digits", "--seed", "3"])
    return tmp_path / "state" / "roles" / "digits-3"


def names(folder):
    return {path.stem for path in folder.glob("*")}


def test_roles_are_written_and_listed(drawn, capsys):
    sizes = {path.stem: len(Pool.load(path)) for path in drawn.glob("*.npz") if path.stem != "truth"}
    roles = {"victim": 513, "unseen": 128, "pool": 256, "shadow": 256, "control": 256, "evaluation": 128}
    assert sizes == {**roles, "reference": 256, "candidates": 256}
    main(["roles", "digits", "--seed", "3"])  # again: they are found
    assert str(drawn / "victim.npz") in capsys.readouterr().out


def test_a_party_gets_the_files_of_its_roles_alone(drawn, tmp_path, capsys):
    attackers, owners = {"pool", "shadow", "candidates"}, {"victim", "unseen", "reference"}
    main(["roles", "digits", "--seed", "3", "--party", "attacker", "--out", str(tmp_path / "attacker")])
    assert names(tmp_path / "attacker") == attackers
    main(["roles", "digits", "--seed", "3", "--out", str(tmp_path / "all")])
    assert names(tmp_path / "all") == {"attacker", "owner", "judge"}
    assert names(tmp_path / "all" / "attacker") == attackers and names(tmp_path / "all" / "owner") == owners
    assert names(tmp_path / "all" / "judge") == {"evaluation", "control", "truth"}
    assert str(tmp_path / "all" / "judge" / "truth.npz") in capsys.readouterr().out
    with pytest.raises(BadInput, match="--party needs --out"):
        main(["roles", "digits", "--party", "attacker"])


def test_without_a_seed_a_party_s_rows_are_those_of_the_state_folder_s_draw(drawn, tmp_path):
    for party in ("owner", "attacker"):
        main(["roles", "digits", "--party", party, "--out", str(tmp_path / "here")])
    kept = tmp_path / "state" / "roles" / "digits"
    for name in ("victim", "unseen", "pool"):
        assert (tmp_path / "here" / f"{name}.npz").read_bytes() == (kept / f"{name}.npz").read_bytes()


def test_without_a_name_the_digits_stand_in(drawn, tmp_path, monkeypatch, capsys):
    def nowhere(*given):
        raise Missing("fashion_mnist: nowhere")

    monkeypatch.setitem(DATASETS, "fashion_mnist", nowhere)
    main(["roles"])
    assert capsys.readouterr().err == "fashion_mnist: nowhere; using 5,000 MNIST digits instead\n"
    assert len(Pool.load(tmp_path / "state" / "roles" / "mnist_digits" / "victim.npz")) == 5000 * 20 // 70


def test_a_model_is_trained_evaluated_and_described(drawn, tmp_path, capsys):
    model, options = str(tmp_path / "model"), ["--family", "mlp", "--mlp-hidden", "32", "16", "--epochs", "20"]
    main(["train", "--rows", str(drawn / "victim.npz"), "--out", model, *options])
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


def test_a_classifier_tells_one_kind_of_rows_from_another(drawn, tmp_path, capsys):
    own = Pool.load(drawn / "victim.npz")
    Pool(own.x[:, :, ::-1, ::-1].transpose(0, 1, 3, 2).copy()).save(tmp_path / "turned.npz")
    options = ["--rows", str(drawn / "victim.npz"), "--out", str(tmp_path / "filter")]
    main(["train", *options, "--against", str(tmp_path / "turned.npz"), "--family", "cnn", "--epochs", "4"])
    assert read_card(tmp_path / "filter").class_names == ("own", "other")
    unseen = Pool.load(drawn / "evaluation.npz").x
    turned = unseen[:, :, ::-1, ::-1].transpose(0, 1, 3, 2)
    model = folder.load(tmp_path / "filter", "cpu")
    assert (model.predict(unseen).argmax(axis=1) == 0).mean() > 0.85
    assert (model.predict(np.ascontiguousarray(turned)).argmax(axis=1) == 1).mean() > 0.85
    Pool(np.zeros((3, 5), np.float32)).save(tmp_path / "other.npz")
    with pytest.raises(BadInput, match=r"rows \(1, 8, 8\) and \(5,\) differ in shape or in features"):
        main(["train", *options, "--against", str(tmp_path / "other.npz")])


def test_rows_of_another_shape_are_not_evaluated(drawn, tmp_path):
    main(
        [
            "train",
            "--rows",
            str(drawn / "victim.npz"),
            "--family",
            "tree",
            "--tree-depth",
            "1",
            "--out",
            str(tmp_path / "m"),
        ]
    )
    Pool(np.zeros((3, 5), np.float32), np.zeros(3, np.int64), ("a", "b")).save(tmp_path / "other.npz")
    with pytest.raises(BadInput, match=r"other\.npz: the rows have shape \(5,\), but the model takes \(1, 8, 8\)"):
        main(["evaluate", str(tmp_path / "m"), str(tmp_path / "other.npz")])


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["roles", "nothing", "--out", "out"], "no data set 'nothing'"),
        (["train", "--rows", "nowhere.npz", "--out", "out"], "nowhere.npz: no such file"),
        (["train", "--rows", "nowhere.npz", "--out", "out", "--family", "oak"], "invalid choice: 'oak'"),
        (["train", "oak", "--out", "out"], "invalid choice: 'oak'"),
        (["train", "--out", "out"], "give either a recipe or, with --rows, a file"),
        (["train", "iris-softmax", "--rows", "rows.npz", "--out", "out"], "give either a recipe or"),
        (["train", "adult-gbdt", "--out", "out"], "adult: no data folder is set; put UCI's adult.data"),
        (["import", "oak", "--weights", "oak.safetensors", "--out", "out"], "torchvision has no classifier 'oak'"),
        (["card", "nowhere"], "card.json: No such file"),
        ([], "required: COMMAND"),
    ],
)
def test_a_wrong_option_is_one_line_and_status_2(arguments, fault, capsys, monkeypatch):
    monkeypatch.delenv("MLAAS_DATA", raising=False)
    with pytest.raises(SystemExit) as ended:
        run(main, arguments)
    told = capsys.readouterr().err
    assert ended.value.code == 2
    assert fault in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("name", ["iris-softmax", "breast-cancer-logistic", "wine-tree", "digits-knn"])
def test_a_ready_recipe_trains_a_victim(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MLAAS_STATE", str(tmp_path / "state"))
    main(["train", name, "--seed", "1", "--out", str(tmp_path / "model")])
    card = read_card(tmp_path / "model")
    assert name_of(READY[name].family) == card.family
    assert card.about["seed"] == 1
    capsys.readouterr()
    (roles,) = (tmp_path / "state" / "roles").iterdir()
    main(["evaluate", str(tmp_path / "model"), str(roles / "evaluation.npz")])
    assert float(capsys.readouterr().out.split()[1]) > 0.7


def test_every_family_has_a_ready_recipe_but_torchvision_s():
    assert {name_of(ready.family) for ready in READY.values()} == set(FAMILIES) - {"torchvision"}
    assert {ready.data for ready in READY.values()} <= set(DATASETS)


@pytest.mark.parametrize("kind", ["forest", "gbdt", "svm", "tfidf"])
def test_every_family_is_trained_evaluated_and_described(kind, tmp_path, capsys):
    KINDS[kind][1].save(tmp_path / "rows.npz")
    model, path = str(tmp_path / "model"), str(tmp_path / "rows.npz")
    main(["train", "--rows", path, "--family", kind, "--out", model])
    capsys.readouterr()
    main(["evaluate", model, path])
    assert float(capsys.readouterr().out.split()[1]) > 0.8
    main(["card", model])
    card = json.loads(capsys.readouterr().out)
    assert card["family"] == kind
    assert [feature["name"] for feature in card["features"]] == [f.name for f in KINDS[kind][1].features]


def test_rows_of_other_features_are_not_evaluated(tmp_path):
    pool = KINDS["gbdt"][1]
    pool.save(tmp_path / "rows.npz")
    main(["train", "--rows", str(tmp_path / "rows.npz"), "--family", "tree", "--out", str(tmp_path / "model")])
    replace(pool, features=()).save(tmp_path / "other.npz")
    with pytest.raises(BadInput, match="the rows do not have the model's features"):
        main(["evaluate", str(tmp_path / "model"), str(tmp_path / "other.npz")])


@pytest.fixture
def weights(tmp_path):
    """Returns torchvision's own weights in a file, and what they answer."""
    from zoo.vision import models

    torch.manual_seed(0)
    network = models.get_model("shufflenet_v2_x0_5", weights=None, num_classes=2).eval()
    save_file(network.state_dict(), tmp_path / "net.safetensors")
    (tmp_path / "names.txt").write_text("cat\ndög\n")
    return tmp_path / "net.safetensors", network


def imported(weights, *more):
    arguments = ["--shape", "3", "32", "32", "--classes", str(weights.parent / "names.txt"), *more]
    out = weights.parent / "model"
    main(["import", "shufflenet_v2_x0_5", "--weights", str(weights), "--out", str(out), *arguments])
    return folder.load(out, "cpu")


def test_torchvision_s_weights_are_taken_and_answer_as_there(weights):
    from zoo.vision import transforms

    path, network = weights
    model = imported(path)
    x = np.random.default_rng(0).random((5, 3, 32, 32), dtype=np.float32)
    scale = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.inference_mode():
        truth = network(scale(torch.from_numpy(x))).softmax(1).numpy()
    np.testing.assert_allclose(model.predict(x), truth, atol=1e-6)
    assert model.card().class_names == ("cat", "dög")


def test_weights_of_another_network_are_named(weights):
    path, network = weights
    state = network.state_dict()
    save_file({name: tensor for name, tensor in state.items() if name != "fc.bias"}, path)
    with pytest.raises(BadInput, match=r"net\.safetensors: missing tensors: \['network.fc.bias'\]"):
        imported(path)
    save_file(state | {"fc.bias": torch.zeros(3)}, path)
    with pytest.raises(BadInput, match=r"tensor network.fc.bias is \(3,\) .* takes \(2,\)"):
        imported(path)


def test_a_pickle_of_weights_is_refused_with_the_way_out(weights):
    path, network = weights
    pth = path.with_name("net.pth")
    torch.save(network.state_dict(), pth)  # noqa: TID251  # to be refused
    with pytest.raises(
        BadInput, match=r"a pickle, which can run arbitrary code; .*save_file\(torch.load\("
    ) as refused:
        imported(pth)
    assert "\n" not in str(refused.value)


def test_the_package_is_a_command(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "zoo", "card", "nowhere"], capture_output=True, text=True, cwd=tmp_path
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: nowhere/card.json")
