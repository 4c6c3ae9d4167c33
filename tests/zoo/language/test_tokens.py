"""Tokens: any text there and back, and files that are not ours refused."""

import json

import pytest

from wire import BadInput
from zoo.language.tokens import END, END_NAME, Tokens


def test_any_text_comes_back(tiny):
    for text in ("Go forth.", " two  spaces\n\ttab", "naïve 安 \N{GRINNING FACE}", "", END_NAME, "\x00\x7f"):
        ids = tiny.tokens.encode(text)
        assert tiny.tokens.decode(ids) == text
        assert END not in ids  # whoever writes its name in a prompt does not end a text


def test_tokens_are_longer_than_bytes_and_no_longer_than_said(tiny, sentences):
    ids = tiny.tokens.encode(sentences[0])
    assert len(ids) < len(sentences[0]) / 2
    assert tiny.tokens.longest == max(len(tiny.tokens.bytes_of([number])) for number in range(len(tiny.tokens)))


def test_names_of_tokens_are_texts(tiny):
    names = [tiny.tokens.name(number) for number in range(len(tiny.tokens))]
    assert names[END] == END_NAME and len(set(names)) == len(names)
    (part,) = (number for number in range(len(names)) if tiny.tokens.bytes_of([number]) == b"\xe5")
    assert names[part] == "bytes:\\xe5"


def test_a_file_says_the_same_tokens(tiny):
    again = Tokens.read(tiny.tokens.written())
    assert again.encode("tell the king") == tiny.tokens.encode("tell the king")
    assert again.written() == tiny.tokens.written()


def changed(tiny, change):
    content = json.loads(tiny.tokens.written())
    change(content)
    return json.dumps(content).encode()


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.pop("model"),
        lambda c: c["model"].pop("merges"),
        lambda c: c["model"]["vocab"].update({END_NAME: 5}),
        lambda c: c["model"]["vocab"].update(far=10**6),
        lambda c: c["model"]["vocab"].update({" ": len(c["model"]["vocab"])}),
        lambda c: c["model"]["merges"].append(["x", "nowhere"]),
        lambda c: c["model"]["merges"].append(["a"]),
        lambda c: c["model"].update(vocab=[1, 2]),
    ],
)
def test_other_files_are_refused(tiny, change):
    with pytest.raises(ValueError, match=r"\w"):
        Tokens.read(changed(tiny, change))


def test_what_a_file_says_beside_its_tokens_is_not_followed(tiny):
    content = changed(tiny, lambda c: c.update(normalizer={"type": "Lowercase"}))
    assert Tokens.read(content).encode("Go") == tiny.tokens.encode("Go")


def test_a_vocabulary_holds_all_bytes():
    with pytest.raises(BadInput, match="from 257"):
        Tokens.learnt(["a"], 200)
