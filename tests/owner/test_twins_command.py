"""The command of the twin test, with an endpoint that answers from a model's folder."""

import dataclasses
import html
import json
from pathlib import Path

import pytest

import owner.command
from cli.command import run
from owner.evidence import load
from owner.judgement import load_judgement
from owner.twins.ranks import Ranks
from owner.twins.selection import Selected
from tests.kinds import images
from wire import Answer, BadInput
from zoo import folder
from zoo.families.logistic import Softmax
from zoo.recipe import Recipe
from zoo.training import Training

ROWS = images(700)
PARTS = {"private": slice(80), "unseen": slice(80, 100), "reference": slice(100, 600), "control": slice(600, 700)}
RULE = ("--rows", "200", "--no-copies")


class Served:
    """Stands where an endpoint would: answers from the model in the folder of its URL, by default labels alone."""

    asked: list = []  # noqa: RUF012

    def __init__(self, url, *, model=None, key=None, options=None, client=None):
        place = url.removeprefix("http://")
        self.base, self.model, self.tells = url, "m", place.startswith("told/")
        self.network = folder.load(Path(place.removeprefix("told/")))
        self.card = dataclasses.replace(self.network.card(), model="m", tells_probs=self.tells)

    def __call__(self, x):
        Served.asked.append(x)
        probs = self.network.predict(x)
        return Answer(probs.argmax(axis=1), probs if self.tells else None)

    def prices(self):
        return None

    def close(self):
        pass


@pytest.fixture(autouse=True, scope="module")
def secret():
    """The same twins in every run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("owner.twins.study.secrets.token_hex", lambda size: "17" * size)
        yield


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr("wire.http.Endpoint", Served)
    monkeypatch.setattr(Served, "asked", [])
    monkeypatch.delenv("MLAAS_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    for name, rows in PARTS.items():
        ROWS.take(rows).save(tmp_path / f"{name}.npz")
    for name, part, seed in (("victim", "private", 2**40), ("other", "control", 1)):
        model = Recipe(Softmax(), Training(epochs=1), seed).train(ROWS.take(PARTS[part]), device="cpu")
        folder.save(model, tmp_path / name, seed=seed)
    return tmp_path


def prepare(*more):
    files = ("--victim", "victim", "--unseen", "unseen.npz", "--study", "study", "--twins", "12", "--jobs", "1")
    owner.command.main(["prepare", *files, *RULE, *more])


def ask(suspect, *more):
    owner.command.main(
        ["twin-test", "--url", f"http://{suspect}", "--study", "study", "--out", "found.json", *RULE, *more]
    )
    return load(Path("found.json"), Ranks)


def test_a_study_proves_that_the_victim_is_the_victim(place, capsys):
    prepare()
    told = capsys.readouterr()
    root = told.out.split()[-1]
    assert "training 12 models takes about 0 minutes" in told.err
    assert "before there is a suspect: mlaas-range prove commit --study study" in told.out
    found = ask("victim")
    assert found.verdict == "accused" and found.details.root == root and found.suspect_url == "http://victim"
    assert found.suspect_queries == sum(map(len, Served.asked)) == len(found.details.labels) <= 200
    assert capsys.readouterr().out.startswith("m at http://victim: accused at alpha 0.01, p = ")


def test_independent_models_stand_beside_every_claim(place, capsys):
    prepare()
    found = ask("other", "--independent", "other")
    assert found.verdict == "inconclusive" and found.details.independent.keys() == {"other"}
    assert "independent models: z at most" in capsys.readouterr().out


JUDGE = ("judge", "found.json", "--head", "log/head-1.json", "--url", "http://victim", "--study", "study")
JUDGE += ("--retrain", "1", "--jobs", "1", "--out", "judged.json")


def test_the_whole_story_ends_in_a_judgement_and_a_page(place, capsys):
    prepare()
    owner.command.main(["commit", "--study", "study"])
    told = capsys.readouterr().out
    assert "is entry 1 of 1 in log" in told and "publish log/head-1.json before there is a suspect" in told
    assert (place / "log" / "key.pem").stat().st_mode & 0o77 == 0
    owner.command.main(["commit", "--study", "study"])
    assert len((place / "log" / "entries.jsonl").read_text().splitlines()) == 1
    evidence = ask("victim", "--log", "log", "--independent", "other")
    assert evidence.signature and evidence.receipt.entry.root == evidence.details.root
    owner.command.main([*JUDGE, "--control", "control.npz", "--controls", "2", "--since", "2100-01-01"])
    told = capsys.readouterr().out
    judged = load_judgement(place / "judged.json")
    assert judged.outcome == "derived" and judged.found["suspect_url"] == "http://victim"
    assert judged.found["details"]["independent"].keys() == {"control-0", "control-1"}
    assert "derived: the repeated test passes the committed rule" in told and "judgement in judged.json" in told
    owner.command.main(["report", "found.json", "--judgement", "judged.json", "--out", "page.html"])
    page = (place / "page.html").read_text()
    assert "The judge: derived." in page and judged.checked[0] in html.unescape(page)


def test_a_commitment_that_is_too_young_is_refused_and_nothing_is_asked(place, capsys):
    prepare()
    owner.command.main(["commit", "--study", "study"])
    ask("victim", "--log", "log")
    Served.asked.clear()
    owner.command.main([*JUDGE, "--independent", "other", "--since", "2001-01-01"])
    assert "refused: the commitment is of" in capsys.readouterr().out and not Served.asked
    assert load_judgement(place / "judged.json").outcome == "refused"


def test_a_judge_asks_the_owners_own_endpoint(place, capsys):
    prepare()
    owner.command.main(["commit", "--study", "study"])
    ask("victim", "--log", "log")
    for deployed, outcome in (("victim", "derived"), ("other", "refused")):
        owner.command.main([*JUDGE, "--independent", "other", "--deployed", f"http://{deployed}"])
        assert load_judgement(place / "judged.json").outcome == outcome
    assert "it serves another model" in capsys.readouterr().out


def test_a_victim_can_be_drawn_after_the_commitment(place, capsys):
    prepare("--beacon", "round 7")
    owner.command.main(["commit", "--study", "study"])
    assert "when round 7 is known: mlaas-range prove draw --study study" in capsys.readouterr().out
    with pytest.raises(BadInput, match="its victim is drawn by round 7"):
        ask("victim", "--log", "log")
    owner.command.main(["draw", "--study", "study", "--value", "00"])
    told = capsys.readouterr().out
    assert "deploy this model, and no other" in told
    drawn = told.split()[3].rstrip(":")
    assert ask(drawn, "--log", "log").details.rank == 1


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ((), "a judge needs independent models: give --control with rows of your own, or --independent"),
        (("--independent", "other", "--head", "found.json"), "found.json: not the head of a log"),
        (("--independent", "other", "--head", "nowhere.json"), "nowhere.json: No such file"),
        (("--independent", "other", "--since", "yesterday"), "'yesterday' is not a date such as 2026-03-01"),
    ],
)
def test_what_a_judge_lacks_is_told(place, capsys, more, fault):
    prepare()
    owner.command.main(["commit", "--study", "study"])
    ask("victim", "--log", "log")
    with pytest.raises((BadInput, SystemExit)) as stopped:
        owner.command.main([*JUDGE, *more])
    assert fault in str(stopped.value) + capsys.readouterr().err


def test_a_study_that_is_not_in_the_log_has_no_receipt(place):
    prepare()
    with pytest.raises(BadInput, match=r"log: no log; `mlaas-range prove commit --log log` begins one"):
        ask("victim", "--log", "log")
    owner.command.main(["commit", "--study", "study"])
    prepare("--study", "second", "--twins", "11")
    with pytest.raises(BadInput, match="log does not have the commitment"):
        owner.command.main(
            [
                "twin-test",
                "--url",
                "http://victim",
                "--study",
                "second",
                "--out",
                "found.json",
                *RULE,
                "--log",
                "log",
            ]
        )


def test_selected_inference_needs_simulated_thefts_and_finds_the_victim(place, capsys):
    few = ("--images", "5", "--candidates", "60", "--permutations", "99")
    prepare("--thefts", "4", *(flag.replace("--", "--selected-") for flag in few))
    owner.command.main(
        ["selected-inference", "--url", "http://told/victim", "--study", "study", "--out", "found.json", *few]
    )
    found = load(place / "found.json", Selected)
    assert found.suspect_queries == 10 and found.details.samples_exposed == 5 and 0 < found.p_value <= 1
    assert "exposed 5 private images" in capsys.readouterr().out
    prepare("--study", "other")
    with pytest.raises(BadInput, match="other has no simulated thefts: prepare a study with --thefts 16"):
        owner.command.main(
            ["selected-inference", "--url", "http://victim", "--study", "other", "--out", "found.json"]
        )


def test_the_twins_are_asked_once_for_all_suspects(place, monkeypatch):
    prepare()
    ask("other")
    monkeypatch.setattr("owner.twins.twins.Twins.predict", None)
    assert ask("victim").verdict == "accused"
    assert json.loads((place / "found.json").read_text())["settings"]["tries"] == 1


def test_prepared_again_it_says_the_same(place, capsys):
    prepare()
    first = capsys.readouterr().out
    prepare()
    again = capsys.readouterr()
    assert again.out == first and "minutes" not in again.err


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        (("--rows", "31"), "rows is 31, but the study committed to 200"),
        (("--study", "nowhere"), "nowhere/study.json: No such file"),
        (("--tries", "0"), "rows and tries must be at least 1"),
        (("--out", "."), "is a folder"),
        (("--independent", "nobody"), "nobody: neither a model's folder nor a URL"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_nothing_is_asked(place, capsys, more, fault):
    prepare()
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        run(lambda argv: ask("victim", *more))
    told = capsys.readouterr().err
    assert stopped.value.code == 2 and fault in told and told.count("\n") == 1 and not Served.asked


def test_reference_rows_that_trained_the_models_are_refused(place):
    with pytest.raises(BadInput, match="all 20 reference rows are among those that the victim or its twins"):
        prepare("--reference", "unseen.npz")
