"""Plain requests about rows, which are answered past ASGI, among others on their connections."""

import json
import random
import socket
import struct
import time

import httpx
import pytest

from wire.tensors import Tensor, pack

PATH = "/v1/models/open:predict"
GET = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
VARYING = {"date", "x-request-id", "ratelimit"}


def connect(url):
    host, _, port = url.removeprefix("http://").partition(":")
    connection = socket.create_connection((host, int(port)))
    connection.settimeout(60)
    return connection


def request(key, body, path=PATH, version="1.1", **headers):
    lines = [f"POST {path} HTTP/{version}", "Host: localhost", f"Authorization: Bearer {key}"]
    lines += [f"Content-Length: {len(body)}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def instances(x):
    return json.dumps({"instances": x.tolist()}).encode()


def answers(connection, n):
    """Reads n answers: status, headers and body of each."""
    stream, found = connection.makefile("rb"), []
    for _ in range(n):
        status, headers = int(stream.readline().split()[1]), {}
        while (line := stream.readline().strip()) != b"":
            name, _, value = line.decode().partition(": ")
            headers[name.lower()] = value
        found.append((status, headers, stream.read(int(headers["content-length"]))))
    return found


@pytest.fixture(scope="module")
def key(live):
    return live[1]("plain")


def test_pipelined_requests_of_all_kinds_are_answered_in_order(live, key, rows):
    sent = [
        request(key, instances(rows[:1]), **{"X-Request-Id": "first"}),
        GET,
        request(key, instances(rows[:2])),
        request("unknown", instances(rows[:1])),
        request(key, b"{"),
        GET,
        request(key, instances(rows[:3]), path="/v1/models/none:predict"),
        request(key, instances(rows[:3]), path="/v1/models/labels:predict"),
    ]
    with connect(live[0]) as connection:
        connection.sendall(b"".join(sent))
        found = answers(connection, len(sent))
    assert [status for status, _, _ in found] == [200, 200, 200, 401, 400, 200, 404, 200]
    assert [len(json.loads(found[i][2])["predictions"]) for i in (0, 2, 7)] == [1, 2, 3]
    assert found[0][1]["x-request-id"] == "first" and all("date" in headers for _, headers, _ in found)


def test_a_plain_answer_is_that_of_the_ordinary_way(live, key, rows):
    """A body in chunks goes the ordinary way."""
    body, length = pack("inputs", [Tensor("input", rows[:5])], {"id": "x"})
    headers = {"Authorization": f"Bearer {key}", "Inference-Header-Content-Length": str(length)}
    url = live[0] + "/v2/models/limited/infer"
    plain = httpx.post(url, content=body, headers=headers)
    ordinary = httpx.post(url, content=iter([body]), headers=headers)
    assert plain.status_code == ordinary.status_code == 200 and plain.content == ordinary.content
    fixed = [{k: v for k, v in r.headers.items() if k not in VARYING} for r in (plain, ordinary)]
    assert fixed[0] == fixed[1] and plain.headers.keys() == ordinary.headers.keys()


@pytest.mark.parametrize("pause", [0, 1.5])
def test_the_body_may_come_in_pieces(live, key, rows, pause):
    """After a second it goes the ordinary way, which limits its time."""
    sent = request(key, instances(rows[:64]))
    with connect(live[0]) as connection:
        for at in range(0, len(sent), len(sent) // 2):
            connection.sendall(sent[at : at + len(sent) // 2])
            time.sleep(pause)
        connection.sendall(request(key, instances(rows[:1])))
        found = answers(connection, 2)
    assert [(status, len(json.loads(body)["predictions"])) for status, _, body in found] == [(200, 64), (200, 1)]


@pytest.mark.parametrize(("version", "headers"), [("1.1", {"Connection": "close"}), ("1.0", {})])
def test_who_wants_the_connection_closed_gets_his_answer_first(live, key, rows, version, headers):
    with connect(live[0]) as connection:
        connection.sendall(request(key, instances(rows[:1]), version=version, **headers))
        ((status, told, _),) = answers(connection, 1)
        assert status == 200 and told["connection"] == "close" and connection.recv(1) == b""


def test_many_refusals_in_one_breath_are_answered_one_by_one(live, key):
    with connect(live[0]) as connection:
        connection.sendall(request(live[1]("breathless"), b"{") * 30)
        statuses = [status for status, _, _ in answers(connection, 30)]
    assert set(statuses) <= {400, 429} and statuses[0] == 400


def test_who_leaves_without_reading_disturbs_nobody(live, key, rows):
    for _ in range(20):
        connection = connect(live[0])
        connection.sendall(
            (request(key, instances(rows[:2])) + b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n") * 10
        )
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    told = httpx.post(live[0] + PATH, content=instances(rows[:1]), headers={"Authorization": f"Bearer {key}"})
    assert told.status_code == 200


def test_who_does_not_read_is_not_written_to_without_end(live, key, rows):
    """Its connection is cut; until then, its requests wait."""
    sent = request(key, instances(rows[:64]))
    with connect(live[0]) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(1)
        with pytest.raises(OSError):  # a time-out: the server no longer takes any
            for _ in range(20_000):
                connection.sendall(sent)


def test_answers_do_not_depend_on_how_the_bytes_arrive(live, key, rows):
    """Whole requests that repeat a head are not parsed; the same in other pieces are."""
    texts = [instances(rows[i : i + 1]) for i in range(4)]
    length = max(map(len, texts))
    same = [request(key, text.ljust(length)) for text in texts]
    other = request(key, texts[0].ljust(length), path="/v1/models/labels:predict")
    sent = [
        *same[:2],
        other,
        same[1].replace(b":predict", b":predict?a"),
        other,
        *same[:2],
        same[2] + b"\r\n",  # an empty line that servers skip
        *same,
        same[0] + same[1],
        same[2] + same[3],
        same[0] + GET,
        GET,
        same[1],
        request(key, b"\r\n\r\n" + texts[3].ljust(length)[4:]),
        same[1],
        request("unknown", texts[0].ljust(length)),
        same[1],
    ]
    expected = None
    rng = random.Random(0)
    for attempt in range(16):
        with connect(live[0]) as connection:
            found = []
            for part in sent:
                cuts = sorted(rng.choices(range(1, len(part)), k=rng.choice([0, 0, 1, 2]) if attempt else 0))
                for start, end in zip([0, *cuts], [*cuts, len(part)], strict=True):
                    connection.sendall(part[start:end])
                    time.sleep(0.002 * bool(attempt))
                found += answers(connection, part.count(b" HTTP/1.1\r\n"))
        bodies = [(status, body if status == 200 else b"") for status, _, body in found]
        expected = expected or bodies
        assert bodies == expected
    assert [status for status, _ in expected].count(200) == len(expected) - 2  # a broken body, an unknown key


def test_a_key_is_refused_as_soon_as_it_is_revoked_though_its_head_repeats(live, rows):
    key, admin = live[1]("briefly"), live[1]("revoker", "admin")
    asked = request(key, instances(rows[:1]))
    with connect(live[0]) as connection:
        statuses = []
        for _ in range(3):
            connection.sendall(asked)
            statuses.append(answers(connection, 1)[0][0])
        path, headers = "/admin/accounts/briefly/keys", {"Authorization": f"Bearer {admin}"}
        assert httpx.delete(live[0] + path, headers=headers).json() == {"revoked": 1}
        connection.sendall(asked)
        statuses.append(answers(connection, 1)[0][0])
    assert statuses == [200, 200, 200, 401]
