import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from cli.command import Parser, run
from cli.flags import add_fields, from_fields
from cli.keys import read_key
from wire import BadInput, Unreachable
from wire.http import CardOptions


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
    assert "How many rows, of which 100 % count (default: 3)" in " ".join(capsys.readouterr().out.split())


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


@pytest.mark.parametrize("content", [b"a\nb", b"\xff\xfe", "é".encode(), b"a b"])
def test_what_can_be_no_key_is_refused_and_not_told(tmp_path, content):
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(BadInput) as caught:
        read_key(None, tmp_path / "key")
    assert "a\nb" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "fields", [{"range": (0.0,)}, {"range": (math.nan, 1.0)}, {"range": (1.0, 0.0)}, {"max_rows": -5}]
)
def test_card_options_that_make_no_sense_are_refused(fields):
    with pytest.raises(BadInput, match="expected"):
        CardOptions(**fields)
