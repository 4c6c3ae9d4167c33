"""A small body costs little: attacks that would stop the server, each with a budget of processor time."""

import base64
import gzip
import io
import struct
import zlib

import pytest
from bodies import CARDS, SMALL, Costs, packed, v2, with_data
from PIL import Image

MB = 2**20
BUDGET = (
    0.1  # seconds of a processor: twice what is promised, since a busy machine is slower; attacks took 1 to 12
)


@pytest.fixture(scope="module")
def costs(tmp_path_factory):
    server = Costs(tmp_path_factory.mktemp("costs"), refusals_burst=10**6)
    yield server
    server.close()


def list_of(part, size=MB):
    """Returns a JSON list that repeats a part up to a size."""
    return b"[" + b",".join([part] * ((size - 2) // (len(part) + 1))) + b"]"


def nested(part, *counts):
    """Returns nested JSON lists, the innermost of ``counts[0]`` parts."""
    for count in counts:
        part = b"[" + b",".join([part] * count) + b"]"
    return part


def v1(model, instances, rest=b""):
    return f"/v1/models/{model}:predict", b'{"instances":' + instances + rest + b"}", {}


def b64(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return b'{"b64":"' + base64.b64encode(buffer.getvalue()) + b'"}'


def chunk(kind, data=b""):
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def segment(kind, data=b""):
    """A segment of a JPEG."""
    return bytes([0xFF, kind]) + struct.pack(">H", len(data) + 2) + data


def stuffed(kind, stuffing, count=1):
    """A list of images of 28 x 28 pixels, each with further bytes behind its beginning."""
    plain = base64.b64decode(b64(Image.new("L", (28, 28)), kind)[8:-2])
    at = 33 if kind == "PNG" else 2
    image = b'{"b64":"' + base64.b64encode(plain[:at] + stuffing + plain[at:]) + b'"}'
    return packed(v1("images", b"[" + b",".join([image] * count) + b"]"))


def exif(count):
    """The metadata of a JPEG, with tags that take long to read."""
    tags = b"".join(struct.pack("<HHII", tag, 3, 1, 0) for tag in range(count))
    whole = b"II*\0\x08\0\0\0" + struct.pack("<H", count) + tags + bytes(4)
    parts = [whole[at : at + 65_000] for at in range(0, len(whole), 65_000)]
    return b"".join(segment(0xE1, b"Exif\0\0" + part) for part in parts)


def pictures(count):
    """The index of a JPEG that claims to hold many pictures."""
    tags = [(0xB000, 7, 4, 0x30303130), (0xB001, 4, 1, count), (0xB002, 7, 16 * count, 50)]
    index = struct.pack("<H", 3) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4 + 16 * count)
    return segment(0xE2, b"MPF\0II*\0\x08\0\0\0" + index)


def bomb():
    """A PNG of 28 x 28 pixels whose data inflates to 60 MiB."""
    plain = base64.b64decode(b64(Image.new("L", (28, 28)))[8:-2])
    return b'{"b64":"' + base64.b64encode(plain[:33] + chunk(b"IDAT", zlib.compress(bytes(60 * MB)))) + b'"}'


def scanned_jpeg():
    """A progressive JPEG of 224 x 224 pixels that repeats its last scan as often as fits."""
    image = base64.b64decode(b64(Image.new("RGB", (224, 224)), "JPEG", progressive=True)[8:-2])
    scan = image[image.rindex(b"\xff\xda") : -2]
    return b'{"b64":"' + base64.b64encode(image[:-2] + scan * (45_000 // len(scan)) + image[-2:]) + b'"}'


def flooded(model, data, shape=None, **members):
    """Returns a request whose data, or the member whose value is ``DATA``, is the given JSON."""
    entry = {"shape": shape or [1, *CARDS[model].input_shape], "data": [0] * 784 if members else "DATA"}
    return packed(with_data(v2(model, entry, **members), data))


def raw(model, shape, size, content):
    """Returns a request with raw bytes."""
    return packed(v2(model, {"shape": shape, "parameters": {"binary_data_size": size}}, content))


FULL = [1024, 1, 28, 28]
BLANK = bytes(1024 * 784 * 4)
PHOTOS = bytes(104 * 3 * 224 * 224 * 4)
TENSOR = b'{"name":"input","shape":[0],"datatype":"FP32","data":[]}'
MEMBERS = b"{" + b",".join(b'"%x":0' % n for n in range(15_000)) + b"}"
LONG = {"Inference-Header-Content-Length": str(50 * MB)}
ATTACKS = {  # made when they are sent, since some take a while
    "a shape of 16 million texts": lambda: raw("texts", [16_777_000], 4 * 16_777_000, bytes(4 * 16_777_000)),
    "more raw texts than are read": lambda: raw("texts", [1024], 16_777_000, bytes(16_777_000)),
    "texts for a model of images": lambda: flooded("images", list_of(b'""', 4 * MB)),
    "texts": lambda: flooded("texts", list_of(b'""'), [1024]),
    "tensors without values": lambda: packed(
        ("/v2/models/images/infer", b'{"inputs":' + list_of(TENSOR) + b"}", {})
    ),
    "numbers and nulls": lambda: flooded("images", list_of(b"1,null"), FULL),
    "missing values": lambda: flooded("table", list_of(b"1,null", 7 * 7168 + 1), [1024, 14]),
    "empty lists": lambda: flooded("images", list_of(b"[]"), FULL),
    "empty objects": lambda: flooded("images", list_of(b"{}"), FULL),
    "lists in an unknown member": lambda: flooded("images", list_of(b"[]"), more="DATA"),
    "lists as data of texts": lambda: flooded("texts", list_of(b"[]"), [1024]),
    "deep lists": lambda: flooded("images", b"[" * MB),
    "deep and wide lists": lambda: flooded("images", list_of(b"[" * 500 + b"]" * 500), FULL),
    "a long shape": lambda: flooded("images", list_of(b"1"), "DATA"),
    "a long number in the shape": lambda: flooded("images", list_of(b"9" * 4000), "DATA"),
    "many outputs": lambda: flooded("images", list_of(b'{"name":"labels"}'), outputs="DATA"),
    "many parameters": lambda: flooded("images", MEMBERS, parameters="DATA"),
    "a long id": lambda: flooded("images", b'"' + b"\\u0041" * (MB // 7) + b'"', id="DATA"),
    "numbers of many digits": lambda: flooded(
        "images", list_of(b"0." + b"123456789" * 18, 165 * 6272), [8, 1, 28, 28]
    ),
    "numbers that are hard to read": lambda: flooded(
        "images", list_of(b"7.2057594037927933e-17", 23 * 44_688 + 2), [57, 1, 28, 28]
    ),
    "as many rows as JSON holds": lambda: flooded("images", list_of(b"0", 2 * 668 * 784 + 2), [668, 1, 28, 28]),
    "all rows in binary": lambda: raw("images", FULL, len(BLANK), BLANK),
    "all rows but the last value": lambda: raw("images", FULL, len(BLANK), BLANK[:-4] + b"\xff" * 4),
    "many photos but the last value": lambda: raw(
        "photos", [104, 3, 224, 224], len(PHOTOS), PHOTOS[:-4] + b"\xff" * 4
    ),
    "more bytes than all rows": lambda: raw("images", FULL, len(BLANK), bytes(60 * MB)),
    "a body that is no request": lambda: packed(("/v2/models/photos/infer", bytes(60 * MB), {})),
    "a head of spaces": lambda: packed(("/v2/models/photos/infer", b" " * (60 * MB), LONG)),
    "instances and nulls": lambda: packed(v1("images", list_of(b"1,null"))),
    "instances without values": lambda: packed(v1("images", list_of(b"[]"))),
    "instances that are objects": lambda: packed(v1("images", list_of(b"{}"))),
    "instances that are texts": lambda: packed(v1("images", list_of(b'""'))),
    "as many instances as JSON holds": lambda: packed(v1("images", nested(b"0", 28, 28, 1, 600))),
    "many texts": lambda: packed(v1("texts", list_of(b'""'))),
    "small images": lambda: packed(v1("images", list_of(b64(Image.new("L", (28, 28))), 128 * 1024))),
    "large images": lambda: packed(v1("photos", list_of(b64(Image.new("RGB", (224, 224)), "JPEG"), MB))),
    "an image with long texts": lambda: stuffed(
        "PNG", chunk(b"zTXt", b"k\0\0" + zlib.compress(b" " * (MB - 1))) * 40
    ),
    "as many photos as are read": lambda: packed(v1("photos", nested(b64(Image.new("RGBA", (224, 224))), 32))),
    "an image of many chunks": lambda: stuffed("PNG", chunk(b"tEXt") * 60_000),
    "images of many chunks": lambda: stuffed("PNG", chunk(b"tEXt") * 900, 64),
    "an image of many profiles": lambda: stuffed(
        "PNG", chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(65_000))) * 5000
    ),
    "an image whose data is a bomb": lambda: packed(v1("images", b"[" + bomb() + b"]")),
    "an image of many comments": lambda: stuffed("JPEG", segment(0xFE) * 180_000),
    "an image of many tables": lambda: stuffed("JPEG", segment(0xDB, bytes(65) * 1000) * 11),
    "an image of many frames": lambda: stuffed(
        "JPEG", segment(0xC0, bytes.fromhex("08001c001c01011100")) * 60_000
    ),
    "an image of many fill bytes": lambda: stuffed("JPEG", b"\xff" * 700_000),
    "images with many tags": lambda: stuffed("JPEG", exif(800), 64),
    "images that claim to hold many": lambda: stuffed("JPEG", pictures(4000), 11),
    "an image with many scans": lambda: packed(v1("photos", b"[" + scanned_jpeg() + b"]")),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_small_body_costs_little(costs, name):
    path, body, headers = ATTACKS[name]()
    assert len(body) <= SMALL
    spent = []
    for _ in range(3):  # the least of three, since other work on the machine adds to it
        status, _ = costs.ask(path, body, headers)
        spent.append(costs.spent)
        assert status in (200, 400, 413)
        if spent[-1] < BUDGET:
            break
    assert min(spent) < BUDGET


def admin_routes(app):
    paths = app._app.openapi()["paths"]
    return [(method.upper(), path) for path in paths if path.startswith("/admin") for method in paths[path]]


@pytest.mark.parametrize("plan", [None, "free"])
def test_no_administrator_s_route_reads_the_body_of_others(costs, plan):
    async def unread():
        raise AssertionError("the body was read")

    routes = admin_routes(costs.app)
    assert len(routes) >= 15
    given = [("Content-Length", 2**20), ("Content-Type", "application/json")]
    if plan is not None:
        given.append(("Authorization", f"Bearer {costs.keys[plan]}"))
    for method, path in routes:
        status, _ = costs.loop.run_until_complete(costs.send(path, unread, given, method=method))
        assert status == (401 if plan is None else 403), path


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"[" * 16_000, "json"),
        (b'{"defenses":' + list_of(b"{}", 16_000) + b"}", "json"),
        (b"a = " + b"[" * 16_000, "toml"),
        (b".".join([b"a"] * 8000) + b" = 1", "toml"),
        (b"".join(b"[a%x.b.c.d]\n" % n for n in range(1000)), "toml"),
        (b"".join(b"a%x.b = 1\n" % n for n in range(1400)), "toml"),
        (b"[[defenses]]\n" * 1200, "toml"),
        (b"a = 1" + b"0" * 16_000, "toml"),
        (b'[[defenses]]\ntype="rounding"\ndigits=2\n' * 400, "toml"),
        (None, "gzip"),  # a bomb
    ],
)
def test_what_an_administrator_sends_costs_little(costs, body, kind):
    body = gzip.compress(bytes(60 * MB)) if body is None else body
    headers = {"Content-Encoding": "gzip"} if kind == "gzip" else {"Content-Type": f"application/{kind}"}
    spent = []
    for _ in range(3):
        status, _ = costs.ask("/admin/models/images/defenses", body, headers, plan="admin", method="PUT")
        spent.append(costs.spent)
        assert status in (400, 413)
    assert min(spent) < BUDGET
