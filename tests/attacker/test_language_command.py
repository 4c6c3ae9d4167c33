"""``mlaas-range attack NAME`` on a language model: what it spends, leaves, and says."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from attacker.command import main
from cli.command import run
from experiments.judge import exposed
from tests.fake_language_server import PRICES, FakeLanguageServer
from tests.tiny_language import SMALL_PAIR, sources, tiny, translator
from wire import BadInput
from zoo.language.model import LanguageModel

SMALL = ["--context", 24, "--layers", 1, "--heads", 2, "--width", 16, "--batch", 8, "--epochs", 1]
QUICK = ["--length", 20, "--at-once", 16, *SMALL]
FORM = "The seal is {}."


@pytest.fixture
def server():
    with FakeLanguageServer(tiny()) as fake:
        yield fake


@pytest.fixture
def attack(server, tmp_path):
    """Runs the command in this process; returns its exit status."""
    tiny().save(tmp_path / "public")

    def command(name, *options, budget=2000):
        words = [name, "--url", server.url, "--key", server.key, "--budget", budget, "--out", tmp_path / "out"]
        if name == "distillation":
            words += ["--vocabulary", tmp_path / "public" / "tokenizer.json"]
        with pytest.raises(SystemExit) as end:
            run(main, [str(word) for word in (*words, *options)])
        return end.value.code

    return command


def result(tmp_path):
    return json.loads((tmp_path / "out" / "result.json").read_text())


def left(tmp_path):
    return sorted(path.name for path in (tmp_path / "out").iterdir())


@pytest.mark.parametrize("learns", ["text", "logprobs"])
def test_distillation_leaves_a_student_what_was_told_and_a_result(learns, attack, server, tmp_path, capsys):
    assert attack("distillation", "--learns", learns, "--tokens", 400, *QUICK, "--seed", 5) == 0
    told = result(tmp_path)
    assert left(tmp_path) == ["result.json", "student", "transfer.jsonl"]
    assert (told["attack"], told["seed"], told["status"], told["reason"]) == ("distillation", 5, "done", None)
    assert told["tokens"] == {
        "prompt": server.spent["prompt_tokens"],
        "completion": server.spent["completion_tokens"],
    }
    assert 400 <= told["tokens"]["completion"] < 400 + 16 * 20
    money = sum(PRICES[f"per_{kind}_token"] * n for kind, n in told["tokens"].items())
    assert told["money"] == money and f"{money / 1e8:.4f} spent" in capsys.readouterr().out
    assert told["account_after"]["completion_tokens"] == told["tokens"]["completion"]
    assert told["endpoint"] == {"url": server.url, "model": "m", "chat": False}
    student = LanguageModel.load(tmp_path / "out" / "student")
    assert student.gpt.layers == 1 and len(student.tokens) == len(tiny().tokens)
    lines = [json.loads(line) for line in (tmp_path / "out" / "transfer.jsonl").read_text().splitlines()]
    assert sum(line["usage"]["completion"] for line in lines) == told["tokens"]["completion"]
    assert all(len(line["completions"][0]) == line["decoding"]["n"] == 16 for line in lines)
    assert server.key not in "".join(path.read_text("latin1") for path in tmp_path.rglob("*") if path.is_file())


def test_an_imitation_of_a_translator_is_a_folder_that_can_be_served(tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join(sources(150, 7)))
    sizes = [word for name, size in vars(SMALL_PAIR).items() for word in (f"--{name}", size)]
    words = ["--texts", tmp_path / "texts.txt", "--length", 16, "--epochs", 1, *sizes, "--sentences", 120]
    with FakeLanguageServer(translator()) as server, pytest.raises(SystemExit) as end:
        reach = ["--url", server.url, "--key", server.key, "--budget", 20_000, "--out", tmp_path / "out"]
        run(main, [str(word) for word in ("imitation", *reach, *words)])
    assert end.value.code == 0
    assert result(tmp_path)["completions"] == 120 and result(tmp_path)["status"] == "done"
    assert LanguageModel.load(tmp_path / "out" / "student").gpt == SMALL_PAIR


def test_a_budget_of_tokens_and_one_of_money_are_kept_and_used_up(attack, server, tmp_path):
    assert attack("distillation", "--learns", "text", *QUICK, budget=500) == 0
    told = result(tmp_path)
    assert told["status"] == "done" and "left of a budget of 500" in told["reason"]
    assert 480 < sum(told["tokens"].values()) <= 500  # the last text is asked for alone
    assert attack("distillation", "--learns", "text", *QUICK, "--money", 0.002, budget=10**6) == 0
    told = result(tmp_path)
    assert 200_000 - 20 * 400 < told["money"] <= 200_000 and told["budget_of_money"] == 0.002
    assert "micro-cents" in told["reason"]


def test_the_output_layer_of_a_served_model(attack, server, tmp_path, capsys):
    assert attack("output-layer", "--prompts", 30, "--tokens", 30, budget=10**5) == 0
    assert left(tmp_path) == ["output_layer.npz", "result.json", "transfer.jsonl"]
    with np.load(tmp_path / "out" / "output_layer.npz", allow_pickle=False) as found:
        assert (found["width"], found["rank"]) == (16, 15)
        assert found["matrix"].shape == (len(found["names"]), 15) == (29, 15)
    assert "output_layer.npz" in capsys.readouterr().out


def test_suspected_secrets_and_a_search(attack, server, tmp_path, capsys):
    (tmp_path / "secrets.txt").write_text("1234\n9876\n")
    suspects = ["--form", FORM, "--secrets", tmp_path / "secrets.txt"]
    assert attack("exposure", *suspects, "--sample", 50, "--digits", 4, budget=10**5) == 0
    path = tmp_path / "out" / "likelihoods.npz"
    assert f"next: mlaas-range experiments exposure {path} --digits 4" in capsys.readouterr().out
    with np.load(path, allow_pickle=False) as found:
        assert found["secrets"].shape == (2,) and found["others"].shape == (50,)
    assert "secret 2: exposure" in exposed(path, 4)
    with pytest.raises(BadInput, match='expected floats "secrets"'):
        np.savez(tmp_path / "other.npz", secrets=np.zeros(3))
        exposed(tmp_path / "other.npz", 4)
    (tmp_path / "beginnings.txt").write_text("The seal is\n\nThe king\n")
    search = ["--beginnings", tmp_path / "beginnings.txt", "--digits", 2, "--guesses", 3]
    assert attack("secret-search", *search, budget=10**5) == 0
    assert left(tmp_path) == ["guesses.json", "result.json", "transfer.jsonl"]
    guesses = json.loads((tmp_path / "out" / "guesses.json").read_text())
    assert len(guesses) == 2 and set(guesses[0][0]) == {"digits", "logprob"}


@pytest.mark.parametrize(
    ("form", "secrets", "said"),
    [
        ("no place", "1234", "expected one {}"),
        ("{} and {}", "1234", "expected one {}"),
        (FORM, "12a4", "'12a4' is not of digits"),
        (FORM, "123", "'123' has 3 digits; expected 4"),
        (FORM, "", "empty; expected one secret a line"),
    ],
)
def test_suspected_secrets_that_cannot_be(form, secrets, said, attack, server, tmp_path, capsys):
    (tmp_path / "secrets.txt").write_text(secrets)
    assert attack("exposure", "--form", form, "--secrets", tmp_path / "secrets.txt", "--digits", 4) == 2
    assert said in capsys.readouterr().err and server.requests == 0


def test_what_cannot_be_run_leaves_the_results_of_before(attack, server, tmp_path, capsys):
    attacked = ["distillation", "--tokens", 100, *QUICK]
    assert attack(*attacked) == 0
    before = left(tmp_path), result(tmp_path)
    for options, said in (
        (["--vocabulary", tmp_path / "none"], "expected a tokenizer.json"),
        (["--vocabulary", tmp_path / "public" / "card.json"], "not a file of tokens"),
        (["--key", "wrong"], "unknown key"),
        (["--money", "-1"], "not a positive amount"),
        (["--tokens", "0"], "must be at least 1"),
    ):
        assert attack(*attacked, *options) == 2
        assert said in capsys.readouterr().err
        assert (left(tmp_path), result(tmp_path)) == before
    server.echoes = False
    (tmp_path / "secrets.txt").write_text("123456")
    assert attack("exposure", "--form", FORM, "--secrets", tmp_path / "secrets.txt") == 2
    assert "echo is not offered here" in capsys.readouterr().err
    assert (left(tmp_path), result(tmp_path)) == before


def test_a_victim_that_refuses_in_the_middle_leaves_what_it_told(attack, server, tmp_path):
    server.refuse_after = 2
    assert attack("distillation", *QUICK, budget=10**5) == 0
    told = result(tmp_path)
    assert (told["status"], told["reason"], told["requests"]) == ("stopped", "no more (HTTP 403)", 2)
    assert (tmp_path / "out" / "student").is_dir()


def test_an_interrupt_ends_the_budget_and_a_kill_loses_no_answer(attack, server, tmp_path, capsys):
    def interrupt():
        if server.requests == 2:
            os.kill(os.getpid(), signal.SIGINT)

    server.on_request = interrupt
    assert attack("distillation", *QUICK, budget=10**5) == 0
    assert (result(tmp_path)["status"], result(tmp_path)["reason"]) == ("stopped", "interrupted")

    pids = []

    def kill():
        if server.requests == 6:
            os.kill(pids[0], signal.SIGKILL)

    server.on_request = kill
    words = ["distillation", "--url", server.url, "--key", server.key, "--budget", 10**5]
    words += ["--vocabulary", tmp_path / "public" / "tokenizer.json", "--out", tmp_path / "out", *QUICK]
    begun = subprocess.Popen([sys.executable, "-m", "attacker", *map(str, words)], stderr=subprocess.DEVNULL)
    pids.append(begun.pid)
    assert begun.wait() == -signal.SIGKILL
    answered, server.on_request = server.requests - 3, lambda: None
    assert attack("distillation", "--tokens", 100, *QUICK) == 0
    path = tmp_path / "out" / "rescued-1.jsonl"
    assert f"{path}: {answered} answered requests of an interrupted run" in capsys.readouterr().err
    assert len(path.read_text().splitlines()) == answered
