"""Loads damaged files of every kind with little memory to spare, and prints what came of each as a line of JSON.

    python tests/hostile_files.py FOLDER [CASES] [SEED]

It is a process of its own, so that its address space can be bounded: beyond what the imports take, a load has
``SPARE`` bytes. Good outcomes are "loaded" and "refused", which is a BadInput of one line.
"""

import gzip
import hashlib
import io
import json
import lzma
import re
import resource
import shutil
import signal
import struct
import sys
import tarfile
import tempfile
import warnings
import zipfile
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tests.hostile_loaders import LOADERS, idx, language_model, load_pools, model, pictures
from wire import BadInput
from zoo import folder

SPARE = 512 * 2**20  # bytes of address space
SECONDS = 60  # of one load
LONGEST = 5000  # characters of an error
ROOT = Path(__file__).parents[1]
ODD = ("0", "-1", "1e999", "NaN", "2147483648", "1000000000", "9223372036854775807", "1" + 30 * "0", "null", '"x"')

# Bombs: what a load must refuse, and the words in which it does.


def card(**changes):
    def make(place):
        model("cnn" if "width" in changes.get("fields", {}) else "mlp")(place)
        path = place / "model" / folder.CARD
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return make, LOADERS["model mlp"][1]


GIGABYTE = 2**30
MEGABYTE_OF_ZEROS = zlib.compressobj(9, wbits=-15)
MEGABYTE_OF_ZEROS = MEGABYTE_OF_ZEROS.compress(bytes(2**20)) + MEGABYTE_OF_ZEROS.flush(zlib.Z_FULL_FLUSH)


def zeros(told):
    """An .npz file of a gigabyte of zeros in a megabyte, whose directory tells the size ``told``."""

    def make(place):
        header = io.BytesIO()
        form = {"descr": "|u1", "fortran_order": False, "shape": (GIGABYTE // 64, 64)}
        np.lib.format.write_array_header_1_0(header, form)
        start = zlib.compressobj(9, wbits=-15)
        start = start.compress(header.getvalue()) + start.flush(zlib.Z_FULL_FLUSH)
        packed = start + GIGABYTE // 2**20 * MEGABYTE_OF_ZEROS
        common = struct.pack("<5H3L2H", 20, 0, zipfile.ZIP_DEFLATED, 0, 0x21, 0, len(packed), told, 5, 0)
        entry = b"PK\3\4" + common + b"x.npy" + packed
        directory = b"PK\1\2" + struct.pack("<H", 20) + common + struct.pack("<3H2L", 0, 0, 0, 0, 0) + b"x.npy"
        end = b"PK\5\6" + struct.pack("<4H2LH", 0, 0, 1, 1, len(directory), len(entry), 0)
        (place / "zeros.npz").write_bytes(entry + directory + end)

    return make, load_pools


def method(number):
    """An .npz file compressed by another method."""

    def make(place):
        with zipfile.ZipFile(place / "packed.npz", "w", number) as archive:
            archive.writestr("x.npy", bytes(1000))

    return make, load_pools


def head(shape, dtype="<f4", version=(1, 0)):
    """An .npz file whose array has a header for more than there is."""

    def make(place):
        file = io.BytesIO()
        write = np.lib.format.write_array_header_1_0 if version == (1, 0) else np.lib.format.write_array_header_2_0
        write(file, {"descr": dtype, "fortran_order": False, "shape": shape})
        with zipfile.ZipFile(place / "head.npz", "w") as archive:
            archive.writestr("x.npy", file.getvalue() + bytes(64))

    return make, load_pools


def packed(name, content, kind):
    """A gzipped file of a gigabyte: many members in a row."""
    member = gzip.compress(content * (2**20 // len(content)))
    return (lambda place: (place / name).write_bytes(member * 2**10)), LOADERS[kind][1]


def packed_sentences():
    bomb, load = packed("rt-polarity.neg.gz", b"a\n", "polarity")
    return (lambda place: ((place / "rt-polarity.pos").write_text("good\n"), bomb(place))), load


def packed_verses(place):
    """A table of a gigabyte, packed by xz."""
    (place / "kjv_web.tsv.xz").write_bytes(lzma.compress(b"a\n" * 2**25, preset=0) * 16)


def many_tokens(place):
    language_model(place)
    (place / "model" / "tokenizer.json").write_bytes(b" " * (2**22 + 1))


def packed_digits():
    bomb, load = packed("t10k-labels-idx1-ubyte.gz", b"\0", "idx")
    return (lambda place: (idx(place), bomb(place))), load


def long_member(place):
    """An archive whose only file is longer than a data set of that name can be."""
    member = tarfile.TarInfo("bangkok")
    member.size = 32 * 2**20
    content = gzip.compress(member.tobuf()) + gzip.compress(bytes(2**20)) * 33
    (place / "dataset_location.tgz").write_bytes(content)


def large_picture(place):
    pictures(place)
    Image.new("1", (12000, 12000)).save(place / "set" / "class0" / "a.png")


def text(name, content, kind):
    return (lambda place: (place / name).write_text(content)), LOADERS[kind][1]


BOMBS = {
    "packed verses": (packed_verses, LOADERS["texts"][1], "more than 67,108,864 bytes"),
    "many tokens": (many_tokens, LOADERS["language model"][1], "more than 4,194,304 bytes"),
    "wide": (*card(fields={"hidden": [10**9, 7]}), "tensor 1.weight is"),
    "wide twice": (*card(fields={"hidden": [10**9, 10**9]}), "tensor 1.weight is"),
    "wide beyond 64 bits": (*card(fields={"hidden": [10**30]}), "cannot be made"),
    "deep": (*card(fields={"hidden": [1] * 10**5}), "at most 100 hidden layers"),
    "many channels": (*card(family="cnn", fields={"width": 10**6, "hidden": 10**6}), "tensor 0.weight is"),
    "many blocks": (*card(family="resnet", fields={"n": 10**6, "width": 1}), "n must lie between"),
    "large rows": (*card(input_shape=[3, 10**5, 10**5]), "a row has at most"),
    "many axes": (*card(input_shape=[1] * 1000), "input_shape"),
    "large network": (
        *card(
            family="torchvision",
            fields={"name": "vit_h_14", "mean": [0, 0, 0], "std": [1, 1, 1]},
            input_shape=[3, 224, 224],
        ),
        "missing tensors",
    ),
    "large card": (*card(about={"a": "a" * 2**23}), "holds more than"),
    "zeros": (*zeros(GIGABYTE + 128), "would unpack to"),
    "zeros whose size is told wrongly": (*zeros(1000), "not a valid .npz file"),
    "bzip2": (*method(zipfile.ZIP_BZIP2), "not a valid .npz file"),
    "lzma": (*method(zipfile.ZIP_LZMA), "not a valid .npz file"),
    "a header for more": (*head((10**12,)), "not a valid .npz file"),
    "a header for strings": (*head((10**12,), "<U0"), "not a valid .npz file"),
    "a header for objects": (*head((2,), "|O"), "not a valid .npz file"),
    "a header for less than nothing": (*head((-16,), version=(2, 0)), "not a valid .npz file"),
    "a packed table": (*packed("adult.csv.gz", b"a,b\n", "adult.gz"), "holds more than"),
    "packed digits": (*packed_digits(), "holds more than"),
    "packed sentences": (*packed_sentences(), "holds more than"),
    "a packed archive": (*packed("dataset_location.tgz", bytes(512), "location.tgz"), "holds more than"),
    "a long member": (long_member, LOADERS["location.tgz"][1], "holds more than"),
    "a long cell": (*text("adult.csv", "age," + "a" * 2**20, "adult"), "field larger than"),
    "a long line": (*text("adult.csv", "1," * 2**20, "adult"), "a row has"),
    "a large picture": (large_picture, LOADERS["pictures"][1], "allow for"),
    "deep settings": (*text("range.toml", "a = " + "[" * 10**5, "settings"), "range.toml"),
    "a long number": (*text("range.toml", "port = " + "1" * 10**5, "settings"), "range.toml"),
    "deep evidence": (*text("evidence.json", "[" * 10**6, "evidence"), "JSON"),
    "a long key": (*text("key", "a" * 10**6, "key"), "holds more than"),
}


def damaged(rng, content):
    """Returns bytes with one to four random faults; in every other case, these are odd numbers in a text."""
    mild = rng.random() < 0.5
    for _ in range(rng.integers(1, 5)):
        at, way = int(rng.integers(0, len(content) + 1)), 6 if mild else rng.integers(0, 7)
        numbers = [*re.finditer(rb"-?\d+(\.\d+)?", content)] if way == 6 and len(content) < 2**16 else []
        if way == 0:
            content = content[:at]
        elif way == 1:
            content = content[:at] + rng.bytes(int(rng.integers(1, 9))) + content[at:]
        elif way == 2:
            content = content[:at] + rng.bytes(4) + content[at + 4 :]
        elif way == 3:
            content = content[:at] + content[at + int(rng.integers(1, 40)) :]
        elif way == 4:
            piece = content[at : at + int(rng.integers(1, 200))]
            content = content[:at] + piece * int(rng.integers(2, 50)) + content[at:]
        elif way == 5:
            content = content[:at] + bytes([255]) * 4 + content[at + 4 :]
        elif numbers:
            number = numbers[rng.integers(0, len(numbers))]
            content = content[: number.start()] + str(rng.choice(ODD)).encode() + content[number.end() :]
    return content


def repacked(rng, content):
    """Returns a file with faults inside its compression or its zip, so that they are read; else as it is."""
    if content[:2] == b"\x1f\x8b":
        return gzip.compress(damaged(rng, gzip.decompress(content)), 1)
    if content[:4] != b"PK\x03\x04":
        return damaged(rng, content)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        chosen = rng.integers(0, len(old.namelist()))
        for number, name in enumerate(old.namelist()):
            member = old.read(name)
            if number == chosen:  # its header or its data
                end = 128 if rng.random() < 0.7 else len(member)
                member = damaged(rng, member[:end]) + member[end:]
            new.writestr(name, member)
    return out.getvalue()


def spoil(rng, place):
    """Damages one of the files of a folder; a card then has the hash of its damaged weights."""
    paths = sorted(path for path in place.rglob("*") if path.is_file() and "cache" not in path.parts)
    path = paths[rng.integers(0, len(paths))]
    content = path.read_bytes()
    path.write_bytes((damaged if rng.random() < 0.4 else repacked)(rng, content))
    if path.name == folder.WEIGHTS:
        shown = path.with_name(folder.CARD)
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        shown.write_text(json.dumps(json.loads(shown.read_text()) | {"sha256": found}))


def outcome(load, place):
    signal.alarm(SECONDS)
    try:
        load(place)
    except BadInput as error:
        fault = str(error)
        return ("refused" if len(fault.splitlines()) == 1 and len(fault) < LONGEST else "a long error"), fault
    except BaseException as error:
        return type(error).__name__, "".join(str(error))[:500]
    finally:
        signal.alarm(0)
    return "loaded", ""


def bound():
    used = int(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (used + SPARE, used + SPARE))


def main(where, cases=25, seed=0):
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(TimeoutError(f"after {SECONDS} s")))
    made = {}
    for kind, (make, load) in LOADERS.items():
        made[kind] = Path(tempfile.mkdtemp(dir=where))
        make(made[kind])
        copy = made[kind].with_suffix(".warm")
        shutil.copytree(made[kind], copy)
        load(copy)  # imports and threads; an undamaged file must load
    bombs = {}
    for name, (make, load, words) in BOMBS.items():
        bombs[name] = Path(tempfile.mkdtemp(dir=where)), load, words
        make(bombs[name][0])
    bound()
    for name, (place, load, words) in bombs.items():
        result, fault = outcome(load, place)
        if result == "refused" and words not in fault:
            result = f"refused without saying {words!r}"
        print(json.dumps({"kind": "bomb", "case": name, "outcome": result, "fault": fault[:500]}), flush=True)
    for kind, (_, load) in LOADERS.items():
        counts = Counter()
        for case in range(cases):
            place = made[kind].with_suffix(".now")
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(made[kind], place)
            spoil(np.random.default_rng([seed, case, *kind.encode()]), place)
            result, fault = outcome(load, place)
            counts[result] += 1
            if result not in ("loaded", "refused"):
                line = {"kind": kind, "case": f"{seed}, {case}", "outcome": result, "fault": fault[:500]}
                print(json.dumps(line), flush=True)
        print(json.dumps({"kind": kind, "counts": counts}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
