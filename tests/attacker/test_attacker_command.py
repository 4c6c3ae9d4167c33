from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commanding import QUICK, result
from fake_server import FakeServer

from zoo import folder
from zoo.data.pool import Pool
from zoo.network import Network


def test_extraction_leaves_a_surrogate_its_transfer_set_and_a_result(
    attack: Callable[..., int], server: FakeServer, pool_file: Path, victim: Network, tmp_path: Path
) -> None:
    assert attack("knockoff", "--pool", pool_file, "--seed", 5, *QUICK) == 0
    told = result(tmp_path)
    expected = {"attack": "knockoff", "seed": 5, "budget": 200, "status": "done", "reason": None, "rows": 200}
    assert told.items() >= expected.items()
    assert told["requests"] == 4
    assert told["money"] == 200 * 1000
    assert told["settings"]["family"] == "mlp"
    assert told["endpoint"] == {"url": server.url, "model": "m"}
    assert told["card"]["tells_probs"] is True
    assert (told["account_before"]["rows"], told["account_after"]["rows"]) == (0, 200)
    assert set(told["versions"]) == {"python", "numpy", "torch", "httpx"}
    surrogate = folder.load(tmp_path / "out" / "surrogate")
    about = folder.read_card(tmp_path / "out" / "surrogate").about
    assert about["bill"] == {"rows": 200, "requests": 4, "money": 200_000}
    assert (about["attack"], about["seed"], about["settings"]) == ("knockoff", 5, told["settings"])
    with np.load(tmp_path / "out" / "transfer.npz", allow_pickle=False) as transfer:
        assert transfer["x"].shape == (200, 1, 8, 8)
        assert transfer["probs"] == pytest.approx(victim.predict(transfer["x"]), abs=1e-5)
        assert np.array_equal(transfer["labels"], victim.predict(transfer["x"]).argmax(axis=1))
    assert surrogate.predict(np.zeros((1, 1, 8, 8), np.float32)).shape == (1, 10)
    assert not [
        path for path in (tmp_path / "out").rglob("*") if path.is_file() and server.key in path.read_text("latin1")
    ]


def test_rows_travel_as_told(
    attack: Callable[..., int], server: FakeServer, pool_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "keys.txt").write_text(f"{server.key}\n")
    ways = ["--keys", tmp_path / "keys.txt", "--repeats", 2, "--dummies", 0.5]
    assert attack("knockoff", "--pool", pool_file, *ways, *QUICK) == 0
    told = result(tmp_path)
    assert told["rows"] == server.rows == 200 and told["status"] == "done"
    assert (told["transports"]["repeats"], told["transports"]["dummies"]) == (2, 0.5)
    with np.load(tmp_path / "out" / "transfer.npz") as transfer:
        assert len(transfer["x"]) == 200  # 50 rows of the attack, twice, and as many dummies
    assert attack("knockoff", "--pool", pool_file, "--jitter", 0.5, *QUICK) == 2
    (tmp_path / "keys.txt").write_text("")
    assert attack("knockoff", "--pool", pool_file, "--keys", tmp_path / "keys.txt", *QUICK) == 2


def test_withheld_probabilities_are_nan_in_the_transfer_set(
    attack: Callable[..., int], server: FakeServer, pool_file: Path, tmp_path: Path
) -> None:
    server.top_k = 3
    assert attack("knockoff", "--pool", pool_file, *QUICK) == 0
    with np.load(tmp_path / "out" / "transfer.npz") as transfer:
        assert (np.isfinite(transfer["probs"]).sum(axis=1) == 3).all()
    server.tells_probs = False
    assert attack("jbda", "--pool", pool_file, "--seeds", 20, "--epochs", 1) == 0
    with np.load(tmp_path / "out" / "transfer.npz") as transfer:
        assert transfer["probs"].shape == (200, 10)
        assert np.isnan(transfer["probs"]).all()


@pytest.mark.parametrize("name", ["confidence", "gap", "shadow"])
def test_membership_leaves_scores(
    name: str, attack: Callable[..., int], pool_file: Path, digits: Pool, tmp_path: Path
) -> None:
    candidates = tmp_path / "candidates.npz"
    digits.take(slice(0, 100)).save(candidates)
    options: list[object] = ["--candidates", candidates]
    if name == "shadow":
        quick = ["--references", 2, "--attack-epochs", 2, "--state", tmp_path / "state"]
        options += ["--shadow", pool_file, *QUICK, *quick]
    assert attack(name, *options, budget=60) == 0
    with np.load(tmp_path / "out" / "scores.npz", allow_pickle=False) as scores:
        assert np.isfinite(scores["scores"]).sum() == (45 if name == "shadow" else 60)  # 15 of the population
        assert scores["threshold"] == pytest.approx(np.nan if name == "confidence" else 0.5, nan_ok=True)
        assert np.array_equal(scores["y"], digits.take(slice(0, 100)).y)
    assert result(tmp_path)["status"] == "done"
    assert result(tmp_path)["rows"] == 60


def test_inversion_leaves_a_row_of_the_class(
    attack: Callable[..., int],
    server: FakeServer,
    victim: Network,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert attack("mi-face", "--label", 3, "--waves", 8, budget=3000) == 0
    made = Pool.load(tmp_path / "out" / "inverted.npz")
    assert made.x.shape == (1, *victim.input_shape) and made.y is not None and made.y.tolist() == [3]
    assert victim.predict(made.x)[0, 3] > 0.5
    assert result(tmp_path)["label"] == 3
    assert "inverted.npz" in capsys.readouterr().out
    assert attack("mi-face", "--label", 10) == 2
    assert "the model has the classes 0 to 9" in capsys.readouterr().err


def test_an_attack_that_needs_confidences_does_not_apply_to_labels_only(
    attack: Callable[..., int], server: FakeServer, pool_file: Path, tmp_path: Path
) -> None:
    server.tells_probs = False
    assert attack("confidence", "--candidates", pool_file) == 0
    told = result(tmp_path)
    assert (told["status"], told["reason"], told["rows"]) == ("not applicable", "labels only", 0)
    assert server.rows == 0


def test_a_limit_that_refills_is_waited_for_as_long_as_told(
    attack: Callable[..., int], server: FakeServer, pool_file: Path, tmp_path: Path
) -> None:
    server.rest_after = 64
    assert attack("knockoff", "--pool", pool_file, *QUICK) == 0
    assert (result(tmp_path)["status"], result(tmp_path)["rows"]) == ("done", 200)
    assert server.limited == 1
