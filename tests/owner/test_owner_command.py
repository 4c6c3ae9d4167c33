import json
from dataclasses import replace

import numpy as np
import pytest

import owner.command
from cli.command import run
from owner.dataset_inference.walks import Walks
from owner.evidence import load
from wire import Answer, BadInput, Card
from zoo.data.pool import Pool

CARD = Card("digits", (6,), 2)


class LoadedModel:
    """Stands where an endpoint would; knows what it was asked."""

    made: list = []  # noqa: RUF012

    def __init__(self, url, *, model=None, key=None, options=None, client=None):
        self.base, self.model, self.key, self.rows = url, model or "digits", key, 0
        self.card = replace(CARD, model=self.model)
        LoadedModel.made.append(self)

    def __call__(self, x):
        self.rows += len(x)
        return Answer((x.sum(1) > 3.1).astype(np.int64))

    def prices(self):
        return None

    def close(self):
        pass


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setattr("wire.http.Endpoint", LoadedModel)
    monkeypatch.setattr(LoadedModel, "made", [])
    monkeypatch.delenv("MLAAS_URL", raising=False)
    rng = np.random.default_rng(0)
    for name in ("private", "unseen"):
        x = rng.random((40, 6), np.float32)
        Pool(x, (x.sum(1) > 3.1).astype(np.int64)).save(tmp_path / f"{name}.npz")
    return tmp_path


def asked(folder, *more):
    return [
        *("dataset-inference", "--url", "http://suspect", "--key", "SECRET", "--victim", "http://victim"),
        *("--private", str(folder / "private.npz"), "--unseen", str(folder / "unseen.npz")),
        *("--out", str(folder / "new" / "evidence.json"), "--seed", "3", "--starts", "2", "--walk-steps", "20"),
        *("--fit-images", "15", "--test-images", "20", "--fit-steps", "50", *more),
    ]


def test_it_leaves_evidence_and_a_summary(files, capsys):
    owner.command.main(asked(files, "--victim-key", "OTHER"))
    suspect, victim = LoadedModel.made
    path = files / "new" / "evidence.json"
    found = load(path, Walks)
    assert (found.suspect_url, found.victim_url) == ("http://suspect", "http://victim")
    assert (found.suspect_queries, found.details.victim_queries) == (suspect.rows, victim.rows)
    assert (suspect.key, victim.key) == ("SECRET", "OTHER")
    assert found.details.seed == 3 and found.details.samples_exposed == 20 and found.settings["fit_images"] == 15
    assert "SECRET" not in path.read_text() and "OTHER" not in path.read_text()
    out = capsys.readouterr().out
    assert out.startswith(f"digits at http://suspect: {found.verdict} at alpha 0.01")
    assert f"p = {found.p_value:.3g}" in out and f"{found.suspect_queries:,} rows" in out


def test_the_victim_is_walked_once_for_several_suspects(files):
    keep = ("--features", str(files / "kept" / "features.npz"))
    owner.command.main(asked(files, *keep))
    first = load(files / "new" / "evidence.json", Walks)
    owner.command.main(asked(files, *keep, "--alpha", "0.05"))
    second = load(files / "new" / "evidence.json", Walks)
    assert LoadedModel.made[1].rows == first.details.victim_queries > 0 and LoadedModel.made[3].rows == 0
    assert (second.details.victim_queries, second.details.victim_queries_before) == (
        0,
        first.details.victim_queries,
    )
    assert second.p_value == first.p_value and LoadedModel.made[1].key == "SECRET"
    for change in (("--seed", "4"), ("--victim-model", "other"), ("--gaussian", "0.1")):
        with pytest.raises(BadInput, match=r"made with .*\(now"):
            owner.command.main(asked(files, *keep, *change))
    assert LoadedModel.made[-1].rows == LoadedModel.made[-2].rows == 0


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        (("--fit-images", "30"), "the private pool has 40 rows, but 30 to fit and 20 to test make 50"),
        (("--private", "nowhere.npz"), "nowhere.npz: no such file"),
        (("--seed", "-1"), "--seed is -1"),
        (("--starts", "0"), "starts is 0"),
        (("--out", "."), "is a folder"),
        (("--starts", "many"), "invalid int value"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_status_2(files, capsys, more, fault):
    with pytest.raises(SystemExit) as stopped:
        run(owner.command.main, asked(files, *more))
    assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert fault in told and told.count("\n") == 1
    assert all(endpoint.rows == 0 for endpoint in LoadedModel.made)


def test_unlabelled_rows_are_told(files, capsys):
    Pool(np.zeros((40, 6), np.float32)).save(files / "unseen.npz")
    with pytest.raises(SystemExit):
        run(owner.command.main, asked(files))
    assert "the unseen pool: the rows have no labels" in capsys.readouterr().err


def test_evidence_is_plain_json(files):
    owner.command.main(asked(files))
    text = (files / "new" / "evidence.json").read_text()
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name))["method"] == "dataset-inference"
