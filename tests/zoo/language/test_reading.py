"""Texts of tokens: whole characters, and nothing of a stop."""

import pytest

from zoo.language.reading import Reader


def read(parts, *stops):
    reader, told = Reader(stops), []
    for number, part in enumerate(parts):
        told.append(reader.read(part, number == len(parts) - 1))
        if reader.stopped:
            break
    return told, reader.stopped


def test_characters_come_whole():
    euro = "€".encode()
    assert read([b"a", euro[:1], euro[1:2], euro[2:], b"b"]) == (["a", "", "", "€", "b"], False)
    assert read([b"a", euro[:2]]) == (["a", "\N{REPLACEMENT CHARACTER}"], False)


@pytest.mark.parametrize("cut", range(1, 6))
def test_a_stop_is_found_however_it_is_divided(cut):
    text = b"go STOP on"
    told, stopped = read([text[: cut + 3], text[cut + 3 :]], "STOP")
    assert "".join(told) == "go " and stopped


def test_what_only_begins_a_stop_is_told_when_it_is_none():
    assert read([b"a S", b"T", b"x", b"S"], "STOP") == (["a ", "", "STx", "S"], False)
    assert read([b"one two"], "two", "one") == ([""], True)
