"""Hostile bodies: whatever is sent, the answer is one of the protocol, and never the server's failure."""

import copy
import gzip
import json
import socket
import zlib

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from parts import SHAPE

from wire.tensors import DATATYPES, HEADER_LENGTH

V1, V2 = "/v1/models/open:predict", "/v2/models/open/infer"
NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.sampled_from([0, 1, -1, 2**31, 2**32, 2**63, 2**64, 10**400, 1e308]),
)
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=20), st.sampled_from(list(DATATYPES)))
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=6),
        st.dictionaries(
            st.text(max_size=8) | st.sampled_from(["name", "shape", "data", "b64", "parameters"]), inner
        ),
    ),
    max_leaves=12,
)
WRONG = (
    st.sampled_from([None, True, 0, -1, 1.5, 256, 2**70, "", "FP32", [], [1], [[]], {}, {"name": "input"}])
    | VALUES
)
PARAMETERS = ["binary_data_size", "binary_data", "binary_data_output", "classification", "shared_memory_region"]


def right(binary):
    entry = {"name": "input", "shape": [1, *SHAPE], "datatype": "FP32"}
    entry |= {"parameters": {"binary_data_size": 256}} if binary else {"data": [0.5] * 64}
    return {"id": "7", "inputs": [entry], "outputs": [{"name": "labels", "parameters": {"binary_data": binary}}]}


def places(value, path=()):
    """Every place in a JSON value."""
    yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        if len(path) < 4 and not (key and path[-1:] == ("data",)):  # one number is as good as another
            yield from places(inner, (*path, key))


@st.composite
def messages(draw):
    """A message that is right but for some places."""
    message = right(draw(st.booleans()))
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from([place for place in places(message) if place]))
        holder = message
        for key in path[:-1]:
            holder = holder[key]
        change = draw(st.sampled_from(["set", "set", "drop", "twice", "add"]))
        if change == "drop" and isinstance(holder, dict):
            del holder[path[-1]]
        elif change == "twice" and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[path[-1]]))
        elif change == "add" and isinstance(holder, dict):
            wrong = st.dictionaries(st.sampled_from(PARAMETERS), WRONG, max_size=2) | WRONG
            holder["parameters"] = copy.deepcopy(draw(wrong))
        else:
            holder[path[-1]] = copy.deepcopy(draw(WRONG))  # a sampled list would be changed for all examples
    return message


@st.composite
def requests(draw):
    """A path, headers and a body."""
    kind = draw(st.sampled_from(["message", "message", "message", "message", "instances", "json", "bytes"]))
    path = {"message": V2, "instances": V1}.get(kind) or draw(st.sampled_from([V1, V2]))
    message = {
        "message": messages(),
        "json": VALUES,
        "instances": st.fixed_dictionaries({"instances": WRONG | st.lists(WRONG, max_size=3)}),
        "bytes": st.binary(max_size=300),
    }[kind]
    drawn = draw(message)
    body = drawn if isinstance(drawn, bytes) else json.dumps(drawn).encode("utf-8", "surrogatepass")
    headers = {}
    framed = draw(st.sampled_from(["right", "right", "wrong"]))
    if framed == "right":
        if b"binary_data_size" in body:
            headers[HEADER_LENGTH] = str(len(body))
            body += bytes(256)
        return path, headers, body
    if draw(st.booleans()):
        lengths = st.sampled_from([len(body), 0, len(body) - 1, len(body) + 1, 2**40]) | st.integers(-5, 400)
        headers[HEADER_LENGTH] = draw(lengths.map(str) | st.text("0123456789abc+-._", min_size=1, max_size=15))
        body += draw(st.sampled_from([b"", bytes(256), bytes(255), b"\xff" * 256]) | st.binary(max_size=300))
    encoding = draw(st.sampled_from([None, None, None, "gzip", "deflate", "br", "gzip, gzip", "identity"]))
    if encoding is not None:
        headers["Content-Encoding"] = encoding
        squeeze = draw(st.sampled_from([gzip.compress, zlib.compress, bytes]))
        body = squeeze(body)
        body = body[: draw(st.sampled_from([None, None, -1, 10]))]
    return path, headers, body


@pytest.fixture(scope="module")
def ask(reached):
    url, key = reached
    authorization = {"Authorization": f"Bearer {key('fuzz')}"}
    with httpx.Client(base_url=url, headers=authorization, timeout=30) as client:
        yield lambda path, headers, body: client.post(path, headers=headers, content=body)


def expect_answer(reply):
    assert reply.status_code < 500, reply.text
    if reply.status_code == 200:
        assert reply.headers["Content-Type"] in ("application/json", "application/octet-stream")
        return
    assert reply.headers["Content-Type"] == "application/problem+json"
    problem = reply.json()
    assert problem["status"] == reply.status_code and problem["error"] == problem["detail"] != ""


@settings(max_examples=400, deadline=None, derandomize=True)
@given(asked=requests())
@example(asked=(V2, {}, json.dumps(right(False)).encode()))
def test_hostile_bodies(ask, asked):
    expect_answer(ask(*asked))


@pytest.mark.slow
@settings(max_examples=20_000, deadline=None)
@given(asked=requests())
def test_hostile_bodies_in_the_long_run(ask, asked):
    expect_answer(ask(*asked))


LONG = b'{"inputs": [{"name": "input", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": '
INGENIOUS = {
    "deep": LONG + b"[" * 100_000 + b"]" * 100_000 + b"}]}",
    "deeper than its parser": b'{"instances": ' + b"[" * 1_000_000,
    "deep within the parser's depth": LONG + b"[" * 900 + b"1" + b"]" * 900 + b"}]}",
    "brackets": LONG + b"[" + b"[[[]]]," * 200_000 + b"1]}]}",
    "a key twice": b'{"inputs": 3, "inputs": [{"name": "input", "name": "x", "shape": [1], "datatype": "FP32"}]}',
    "no UTF-8": b'{"inputs": [{"name": "\xff\xfe"}]}',
    "a lone surrogate": b'{"id": "\\ud800", "inputs": [{"name": "\\udfff"}]}',
    "a NUL": b'{"id": "\\u0000", "inputs": [{"name": "in\\u0000put"}]}',
    "a huge integer": LONG + b"[" + b"9" * 100_000 + b"]}]}",
    "not a number": LONG + b"[NaN, Infinity]}]}",
    "a huge exponent": LONG + b"[" + b"1e999," * 63 + b"1e999]}]}",
    "a shape beyond all": b'{"inputs": [{"name": "input", "shape": [2147483647, 2147483647, 2147483647], '
    b'"datatype": "FP64", "parameters": {"binary_data_size": 9223372036854775807}}]}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"instances": []}'.encode("utf-16"),
    "nothing": b"",
}


@pytest.mark.parametrize("name", INGENIOUS)
@pytest.mark.parametrize("path", [V1, V2])
def test_ingenious_bodies(ask, name, path):
    reply = ask(path, {}, INGENIOUS[name])
    assert 400 <= reply.status_code < 500
    expect_answer(reply)


@pytest.mark.parametrize("layers", [1, 2])
def test_bombs_are_refused(ask, layers):
    bomb = b" " * 2**27
    for _ in range(layers):
        bomb = gzip.compress(bomb, 1 if layers == 1 else 9)
    reply = ask(V2, {"Content-Encoding": "gzip"}, bomb)
    assert reply.status_code == (413 if layers == 1 else 400)
    expect_answer(reply)


@pytest.mark.parametrize(
    "length", [b"1000", b"-1", b"abc", b"1e3", b"99999999999999999999", b"5\r\nContent-Length: 6", b"0"]
)
def test_a_content_length_that_is_not_its_body_s(ask, reached, length):
    url, _ = reached
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        head = b"POST " + V2.encode() + b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + length + b"\r\n"
        connection.sendall(head + b"Authorization: Bearer mlr_x\r\n\r\n{}")
        connection.shutdown(socket.SHUT_WR)
        said = connection.recv(65536)
    assert said == b"" or b" 4" in said.split(b"\r\n")[0]
    assert ask(V2, {}, json.dumps(right(False)).encode()).status_code == 200  # it goes on
