"""How commands start: by name, without torch for a help, and without a traceback when they are interrupted."""

import dataclasses
import os
import signal
import subprocess
import sys
import termios

import pytest

from attacker import ATTACKS, HELD, LANGUAGE
from cli.__main__ import COMMANDS, main
from cli.registry import keys, outline, resolve
from cli.train import FAMILIES
from defenses import DETECTORS
from owner import PROOFS, TEXT_PROOFS
from wire.version import VERSION
from zoo import families
from zoo.data import DATASETS
from zoo.data.roles import PARTIES
from zoo.recipe import READY

HEAVY = {"numpy", "torch", "sklearn", "scipy", "fastapi", "httpx"}

EXPERIMENTS = ("demo", "report", "judge", "exposure", "reproduce", "sybils", "mapping")
HELPS = [
    *(["serve"], ["serve", "accounts"], ["serve", "accounts", "create"], ["serve", "calibrate"]),
    *(["attack"], *(["attack", name] for name in (*ATTACKS, *LANGUAGE, "agreement"))),
    *(["prove"], *(["prove", name] for name in (*PROOFS, *TEXT_PROOFS, "judge-dawn", "mark-text", "judge-text"))),
    *(["train"], *(["train", name] for name in ("roles", "import", "evaluate", "card"))),
    *(["experiments"], *(["experiments", name] for name in EXPERIMENTS)),
    *(["benchmarks"], *(["benchmarks", name] for name in ("serving", "detectors"))),
]


def python(program: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, **options)


def test_a_help_imports_nothing_that_takes_long():
    program = f"""
import contextlib, io, sys
from cli.__main__ import main
for words in {HELPS}:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        main([*words, "--help"])
    assert "usage: mlaas-range " + " ".join(words) in out.getvalue(), words
    loaded = {HEAVY} & set(sys.modules)
    assert not loaded, (words, loaded)
"""
    ended = python(program)
    assert ended.returncode == 0, ended.stderr


def test_another_package_of_the_name_benchmarks_is_not_ours(tmp_path):
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "__init__.py").touch()
    path = os.pathsep.join([str(tmp_path), *sys.path])
    program = "from cli.__main__ import main; main(['benchmarks', 'serving', '--help'])"
    ended = python(program, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path})
    assert ended.returncode == 0, ended.stderr


OUTLINED = [
    *(
        target
        for registry in (ATTACKS, LANGUAGE, HELD, PROOFS, TEXT_PROOFS)
        for target in registry.targets.values()
    ),
    *FAMILIES.values(),
]


@pytest.mark.parametrize("target", OUTLINED)
def test_an_outline_has_the_fields_and_the_documentation_of_its_class(target):
    cls, twin = resolve(target), outline(target)
    assert twin is not cls
    assert twin.__doc__.split() == cls.__doc__.split()
    fields = [[(field.name, field.default) for field in dataclasses.fields(each)] for each in (cls, twin)]
    assert fields[0] == fields[1]


def test_the_help_names_all_that_there_is():
    assert {name: resolve(target) for name, target in FAMILIES.items()} == families.FAMILIES
    assert keys("zoo.recipe:READY") == list(READY)
    assert keys("zoo.data.catalog:DATASETS") == list(DATASETS)
    assert keys("zoo.data.roles:PARTIES") == list(PARTIES)
    assert keys("defenses:DETECTORS") == list(DETECTORS)


def test_every_party_is_found_by_name():
    for target, _ in COMMANDS.values():
        assert callable(resolve(target))


def test_the_version(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"mlaas-range {VERSION}\n"


def test_an_unknown_command_is_one_line(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["steal"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ["cli", "attack", "gap", "--url", "http://127.0.0.1:1", "--budget", "1", "--out", "out"],
        ["attacker", "gap", "--url", "http://127.0.0.1:1", "--budget", "1", "--out", "out"],
        ["server"],
        ["experiments", "judge", "scores.npz", "truth.npz"],
        ["benchmarks", "detectors"],
    ],
    ids=lambda words: " ".join(words[:3]),
)
def test_an_interrupt_during_imports_shows_nothing(words, tmp_path):
    (tmp_path / "numpy.py").write_text("print(flush=True)\nimport time\ntime.sleep(60)\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    begun = subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert begun.stdout is not None
    begun.stdout.readline()  # the import has begun
    begun.send_signal(signal.SIGINT)
    _, err = begun.communicate()
    assert (begun.returncode, err) == (130, "")


@pytest.mark.parametrize(
    ("terminal", "flags", "shown"), [(True, [], True), (True, ["--quiet"], False), (False, [], False)]
)
def test_progress_bars_are_for_terminals_and_can_be_switched_off(terminal, flags, shown):
    program = f"""
import sys
from cli.command import Parser, run
from cli.flags import add_quiet
def main(argv):
    parser = Parser("bars")
    add_quiet(parser)
    parser.parse_args(argv)
    from tqdm import tqdm
    for _ in tqdm(range(3), desc="progress"):
        pass
run(main, {flags})
"""
    ours, theirs = os.openpty() if terminal else os.pipe()
    if terminal:
        termios.tcsetwinsize(theirs, (24, 80))
    env = {name: value for name, value in os.environ.items() if name != "TQDM_DISABLE"}
    subprocess.run([sys.executable, "-c", program], stderr=theirs, env=env, check=True)
    os.write(theirs, b"end\n")
    told = b""
    while b"end" not in told:
        told += os.read(ours, 1000)
    assert (b"progress" in told) == shown
    os.close(theirs)
    os.close(ours)


def test_what_commands_write_is_for_their_user_alone(tmp_path):
    write = (
        "import pathlib; from cli.command import run; run(lambda _: pathlib.Path('rows.npz').write_text('') and 0)"
    )
    paths = os.pathsep.join(map(os.path.abspath, filter(None, sys.path)))
    subprocess.run(
        [sys.executable, "-c", write], cwd=tmp_path, env={**os.environ, "PYTHONPATH": paths}, check=True
    )
    assert (tmp_path / "rows.npz").stat().st_mode & 0o777 == 0o600
