from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from wire import BadInput, Unreachable
from wire.command import Parser, add_fields, from_fields, run


@dataclass(frozen=True)
class Method:
    """A method.

    Attributes:
        rows: How many rows, of which
            100 % count.
        rates: Some rates.
    """

    rows: int = 3
    rates: tuple[float, ...] = (0.5, 1.0)
    kind: Literal["a", "b"] = "a"
    most: int | None = None
    loud: bool = False
    file: Path | None = None


def parse(*argv):
    parser = Parser("method")
    add_fields(parser, Method)
    return from_fields(Method, parser.parse_args(argv))


def test_fields_are_flags_and_back():
    assert parse() == Method()
    given = parse(*["--rows", "5", "--rates", "0.1", "0.2", "--kind", "b", "--most", "9", "--loud", "--file", "x"])
    assert given == Method(5, (0.1, 0.2), "b", 9, True, Path("x"))


def test_help_comes_from_the_docstring(capsys):
    with pytest.raises(SystemExit):
        parse("--help")
    assert "How many rows, of which 100 % count. (default: 3)" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("error", [BadInput("no such file"), Unreachable("nobody there")])
def test_what_a_person_can_put_right_is_one_line(error, capsys):
    def main(argv):
        raise error

    with pytest.raises(SystemExit) as ended:
        run(main)
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"error: {error}\n"


def test_a_wrong_option_is_one_line(capsys):
    with pytest.raises(SystemExit) as ended:
        parse("--rows", "many")
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
