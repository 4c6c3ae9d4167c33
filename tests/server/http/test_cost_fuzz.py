"""Searches for small bodies that cost the processor much: generated, spliced and mutated, kept if they cost more.

A run of seconds belongs to the suite. A longer one is ``python tests/server/http/test_cost_fuzz.py SECONDS``.
"""

import base64
import gzip
import random
import sys
import time
import zlib
from operator import itemgetter
from pathlib import Path

import pytest
from bodies import CARDS, SMALL, Costs, v2, with_data
from PIL import Image
from test_costs import BUDGET, b64, nested, v1

SECONDS = 8
LEAST = 20  # bodies, however busy the machine is
ATOMS = [
    *(b"0", b"1", b"-0", b"1e5", b"0.5", b"1e-400", b"1e400", b"null", b"true", b'""', b'"a"', b"[]", b"{}"),
    *(b"0.1234567890123456789012345678", b"7.2057594037927933e-17", b"5e-324", b"9" * 19, b"9" * 21, b"9" * 300),
    *(b'"\\u0041"', b'"\\ud83d\\ude00"', b'"\xf0\x9f\x98\x80"', b'"\xff"', b'{"":0}', b"[0]", b"[null]"),
    *(b"[[0],[0]]", b'{"name":"input"}', b'{"b64":""}', b'{"name":"input","shape":[],"datatype":"FP32"}'),
    *(b" ", b"\n\t", b",", b"[", b"[" * 100 + b"]" * 100, b'{"a":' * 100 + b"0" + b"}" * 100),
    *(b'"' + b"\\\\" * 50 + b'"', b"1," * 50 + b"1"),
]
MEMBERS = ("id", "parameters", "outputs", "inputs", "more", "instances")
TOML = [b"a.b = 1\n", b"[a.b]\n", b"[[defenses]]\n", b'type = "quota"\n', b"x = [[[[1]]]]\n", b"a = {b={c=1}}\n"]


def value(rng, size):
    """Returns JSON of about a size, perhaps not valid."""
    atom = rng.choice(ATOMS)
    match rng.randrange(6):
        case 0:
            return atom
        case 1:
            return b"[" + b",".join([atom] * (size // (len(atom) + 1))) + b"]"
        case 2:
            return b"{" + b",".join(b'"%x":%b' % (n, atom) for n in range(size // (len(atom) + 9))) + b"}"
        case 3:
            mixed = [rng.choice(ATOMS) for _ in range(50)]
            return b"[" + b",".join(mixed * (size // (sum(map(len, mixed)) + 50) + 1)) + b"]"
        case 4:
            for _ in range(rng.randrange(1, 5)):
                atom = nested(atom, min(rng.choice((1, 2, 8, 28, 100, 784)), size // len(atom) + 1))
            return atom[:size]
        case _:
            return b'"' + rng.choice((b"a", b"\\n", b"\\u00e9", b"\xc3\xa9", b"[", b",")) * (size // 6) + b'"'


def rows(rng, card, size):
    """Returns JSON rows of a card's shape or nearly, and the shape."""
    room = max(1, size // 2 // max(1, *card.input_shape, 1))
    n = rng.choice((1, 2, card.max_rows, card.max_rows + 1, min(card.max_rows, room)))
    shape = [n, *card.input_shape]
    if rng.random() < 0.1:
        shape[rng.randrange(len(shape))] = rng.choice((0, 1, 2**31 - 1, 65_536))
    atom = rng.choice(ATOMS[:6]) if rng.random() < 0.7 else rng.choice(ATOMS)
    count = max(1, min(size // (len(atom) + 1), *[product(shape)] * 2))
    flat = b"[" + b",".join([atom] * count) + b"]"
    return flat, shape


def product(shape):
    total = 1
    for side in shape:
        total *= side
    return total


def request(rng):
    """Returns path, body and headers of a request."""
    name, card = rng.choice(list(CARDS.items()))
    size = rng.choice((100, 10_000, 60_000, 1_000_000, 1_040_000))
    kind = rng.random()
    if kind < 0.08:
        lines = [rng.choice(TOML) for _ in range(rng.randrange(1, 30))]
        body = (b"".join(lines) * 4000)[: rng.choice((1000, 16_384, 20_000))]
        return "/admin/models/images/defenses", body, {"Content-Type": "application/toml"}
    if kind < 0.12:
        return "/admin/accounts", value(rng, rng.choice((100, 16_000))), {"Content-Type": "application/json"}
    if kind < 0.3:
        mode = rng.choice(("L", "RGB", "P", "1", "RGBA", "I;16"))
        side = card.input_shape[1:] if len(card.input_shape) == 3 else (8, 8)
        options = rng.choice(({"kind": "PNG"}, {"kind": "JPEG"}, {"kind": "JPEG", "progressive": True}))
        if options["kind"] == "JPEG" and mode not in ("L", "RGB"):
            mode = "RGB"
        image = b64(Image.new(mode, side[::-1]), **options)
        if rng.random() < 0.4:
            plain = bytearray(base64.b64decode(image[8:-2]))
            at = rng.randrange(len(plain))
            plain[at : at + rng.randrange(20)] = rng.randbytes(rng.randrange(20)) * rng.choice((1, 100))
            image = b'{"b64":"' + base64.b64encode(plain) + b'"}'
        return v1(name, nested(image, min(rng.choice((1, 16, 64, 65)), max(1, size // len(image)))))
    if kind < 0.5:
        data = value(rng, size) if rng.random() < 0.5 else rows(rng, card, size)[0]
        return v1(
            name, data, b',"%b":' % rng.choice(MEMBERS).encode() + value(rng, size // 3) * (rng.random() < 0.3)
        )
    data, shape = rows(rng, card, size)
    if kind < 0.7:
        count = rng.choice((product(shape), card.max_rows * max(1, product(card.input_shape))))
        length = count * {"FP32": 4, "UINT8": 1, "BYTES": rng.choice((4, 5, 20))}[card.dtype]
        length = min(length, 2**24)
        filling = rng.choice((bytes(1), b"\xff", b"\x01\0\0\0a", b"\0\0\x80\x3f", b"\0\0\xc0\x7f"))
        raw = (filling * (length // len(filling) + 1))[: length + rng.choice((0, 0, 0, 1, -1))]
        return v2(name, {"shape": shape, "parameters": {"binary_data_size": length}}, raw)
    members = {rng.choice(MEMBERS[:3] + MEMBERS[4:]): "DATA"} if rng.random() < 0.4 else {}
    entry = {"shape": shape, "data": [0] if members else "DATA"}
    if rng.random() < 0.2:
        entry[rng.choice(("shape", "name", "datatype", "parameters", "data"))] = "DATA"
    return with_data(v2(name, entry, **members), value(rng, size) if rng.random() < 0.5 else data)


def mutated(rng, found):
    """Returns a request with parts of its body, before compression, repeated, moved or replaced."""
    path, body, headers = found
    body = bytearray(body)
    for _ in range(rng.randrange(1, 4)):
        start = rng.randrange(len(body) + 1)
        end = min(len(body), start + rng.choice((1, 4, 30, 1000)))
        part = bytes(body[start:end])
        body[start:end] = rng.choice((b"", part * 2, part * rng.choice((10, 1000)), rng.choice(ATOMS)))
        del body[8 * 2**20 :]
    return path, bytes(body), headers


def sent(rng, found):
    """Returns a request as it is sent, compressed if it is long; None if it still has more than 64 KiB."""
    path, body, headers = found
    if len(body) > SMALL or rng.random() < 0.3:
        gz = rng.random() < 0.8
        body = gzip.compress(body) if gz else zlib.compress(body)
        headers = {**headers, "Content-Encoding": "gzip" if gz else "deflate"}
    return None if len(body) > SMALL else (path, body, headers)


def search(costs, seconds, seed, tell=lambda tried, found: None):
    """Returns the costliest bodies, as processor seconds, status and request, and how many were tried.

    Half of the bodies are mutations of those that cost most so far on their path and with their status; ``tell``
    hears of each of these when it is found.
    """
    rng, tried, worst = random.Random(seed), 0, {}
    until = time.monotonic() + seconds
    while time.monotonic() < until or tried < LEAST:
        mutate = worst and rng.random() < 0.5
        plain = mutated(rng, rng.choice(list(worst.values()))[2]) if mutate else request(rng)
        if (found := sent(rng, plain)) is None:
            continue
        tried += 1
        spent, status = cost(costs, found)
        assert status in (200, 201, 400, 404, 405, 413, 415, 422), (status, found)
        if spent > worst.get((plain[0], status), (0,))[0]:
            spent = min(spent, *(cost(costs, found)[0] for _ in range(2)))  # other work on the machine adds to it
            known = worst.get((plain[0], status), (0.0,))
            if spent > known[0]:
                worst[plain[0], status] = (spent, status, plain)
                tell(tried, worst[plain[0], status])
    return sorted(worst.values(), key=itemgetter(0), reverse=True), tried


def cost(costs, found):
    path, body, headers = found
    admin = path.startswith("/admin")
    method = "PUT" if "defenses" in path else "POST"
    status, _ = costs.ask(path, body, headers, plan="admin" if admin else "free", method=method)
    return costs.spent, status


@pytest.mark.parametrize("seed", [0, None])  # None: another one each time
def test_no_small_body_costs_much(tmp_path, seed):
    seed = time.time_ns() if seed is None else seed
    costs = Costs(tmp_path, refusals_burst=10**9)
    worst, tried = search(costs, SECONDS / 2, seed)
    costs.close()
    assert tried >= LEAST
    assert worst[0][0] < BUDGET, (seed, worst[0][1], worst[0][2][0], worst[0][2][1][:300])


def line(found):
    """Describes a request and what it cost."""
    spent, status, (path, body, headers) = found
    return f"{spent * 1e3:7.1f} ms  {status}  {len(body):8d} bytes  {path} {headers} {body[:150]!r}"


def main():
    """Searches for as many seconds as the first argument says; prints costlier bodies as it finds them."""
    from tempfile import TemporaryDirectory

    seed = int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns()
    with TemporaryDirectory() as path:
        costs = Costs(Path(path), refusals_burst=10**9)

        def tell(tried, found):
            print(f"{tried:7d}  {line(found)}", flush=True)

        worst, tried = search(costs, float(sys.argv[1]), seed, tell)
        costs.close()
    print(f"{tried} bodies of seed {seed}; those that cost most:", *map(line, worst[:10]), sep="\n")


if __name__ == "__main__":
    main()
