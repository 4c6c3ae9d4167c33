"""Files of every kind that the product loads: how each is made, and how it is loaded."""

import gzip
import io
import lzma
import shutil
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from attacker.journal import Journal, read_journal
from cli.keys import read_key
from defenses.monitoring.reference import Reference
from defenses.watermarks.ledger import Opening
from experiments.judge import judged
from owner.dataset_inference.embeddings import Embeddings, Images, Study
from owner.evidence import load as load_evidence
from owner.runner import _read
from server.settings import read_settings
from tests.kinds import KINDS, images, sentences, table, trained
from wire import Answer
from zoo import data, folder
from zoo.data.adult import COLUMNS
from zoo.data.location import FEATURES
from zoo.data.pool import Pool
from zoo.language.encoder_decoder import EncoderDecoder
from zoo.language.gpt import Gpt
from zoo.language.model import LanguageModel
from zoo.language.tokens import Tokens
from zoo.language.translator import Translator

ROOT = Path(__file__).parents[1]
HELD = Images(None, images(8, seed=1), images(8, seed=2))


def arrays(path, compressed=False, **content):
    (np.savez_compressed if compressed else np.savez)(path, **content)


def model(kind):
    return lambda place: folder.save(trained(kind)[0], place / "model")


def pools(place):
    images().save(place / "images.npz")
    table().save(place / "table.npz")
    sentences().save(place / "texts.npz")
    x = (np.arange(640) % 256).reshape(10, 8, 8).astype(np.uint8)
    arrays(place / "packed.npz", True, x=x, y=np.zeros(10, np.int64), class_names=np.array(["a", "b"]))


def load_pools(place):
    for path in sorted(place.iterdir()):
        Pool.load(path)


def adult(place, name="adult.csv"):
    line = "39,State-gov,77516,Bachelors,13,Divorced,Sales,Unmarried,White,Male,2174,0,40,Cuba,<=50K\n"
    content = (",".join([*COLUMNS, "class"]) + "\n" + 20 * (line + line.replace("Cuba", "?"))).encode()
    (place / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)


def location(place, packed=False):
    content = "".join(f"{1 + i % 30}{(i % 7) * ',1'}{(FEATURES - i % 7) * ',0'}\n" for i in range(20)).encode()
    if not packed:
        (place / "bangkok").write_bytes(content)
        return
    member = tarfile.TarInfo("bangkok")
    member.size = len(content)
    with tarfile.open(place / "dataset_location.tgz", "w:gz") as archive:
        archive.addfile(member, io.BytesIO(content))


def polarity(place):
    for side in ("neg", "pos"):
        (place / f"rt-polarity.{side}").write_text("a dull film\na façade\n")


def idx(place):
    for name, number in (("train", 6), ("t10k", 4)):
        for kind, shape in (("images-idx3", (number, 28, 28)), ("labels-idx1", (number,))):
            head = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">i4").tobytes()
            (place / f"{name}-{kind}-ubyte.gz").write_bytes(
                gzip.compress(head + np.ones(shape, np.uint8).tobytes())
            )


def pictures(place):
    for number, name in enumerate(("a.png", "b.jpg", "c.bmp", "d.gif", "e.tiff", "f.webp", "g.ppm")):
        (place / "set" / f"class{number % 2}").mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(np.full((8, 8, 3), number, np.uint8))
        image.save(place / "set" / f"class{number % 2}" / name)


def loads(name):
    return lambda place: data.load(name, place, place / "cache")


def journal(place):
    answer = Answer(np.zeros(5, np.int64), np.full((5, 3), 1 / 3, np.float32))
    written = Journal(place / "journal.npy", 3)
    written.record(np.zeros((5, 4), np.float32), answer)
    written.close()


ABOUT = {"seed": 0, "victim": ""}


def study(place):
    held = np.arange(3)
    Study(HELD, Embeddings(np.zeros((4, 2, 3)), np.zeros((4, 2, 3)), held, held), 9).save(
        place / "study.npz", ABOUT
    )


def scores(place):
    arrays(place / "scores.npz", scores=np.linspace(0, 1, 10))
    arrays(place / "truth.npz", member=np.arange(10) % 2 == 0)


def opening(place):
    from tests.owner.dawn_court import OPENING

    (place / "opening.json").write_bytes(OPENING.to_json())


def evidence(place):
    from tests.owner.test_evidence import EVIDENCE

    EVIDENCE.save(place / "evidence.json")


def load_walks(place):
    from owner.dataset_inference.walks import Walks

    load_evidence(place / "evidence.json", Walks)


SETTINGS = """
[plans.open]
price_per_row = 0.0001
defenses = [{ type = "quota", rows = 1000, per = "day" }]
[plans.admin]
admin = true
[[victims]]
name = "open"
folder = "model"
max_rows = 64
defenses = [{ type = "top_k", k = 3 }, { type = "rounding", digits = 2 }]
"""


def language_model(place):
    tokens = Tokens.learnt(["and it was so"], 260)
    LanguageModel.untrained(Gpt(260, 8, 1, 1, 4), tokens, seed=0).save(place / "model")


def translator(place):
    tokens = Tokens.learnt(["and it was so"], 260)
    Translator.untrained(EncoderDecoder(260, 8, 1, 1, 4, 1), tokens, seed=0).save(place / "model")


def verses(place):
    (place / "kjv_web.tsv.xz").write_bytes(lzma.compress(b"In the beginning\tAt first\nAnd\tThen\n"))


LOADERS = {
    **{f"model {kind}": (model(kind), lambda place: folder.load(place / "model", "cpu")) for kind in KINDS},
    "language model": (language_model, lambda place: LanguageModel.load(place / "model")),
    "translator": (translator, lambda place: LanguageModel.load(place / "model")),
    "texts": (verses, loads("kjv")),
    "pairs": (verses, loads("kjv_modern")),
    "pools": (pools, load_pools),
    "reference": (
        lambda place: images().save(place / "reference.npz"),
        lambda place: Reference(place / "reference.npz", (1, 8, 8)),
    ),
    "adult": (adult, loads("adult")),
    "adult.gz": (lambda place: adult(place, "adult.csv.gz"), loads("adult")),
    "location": (location, loads("location30")),
    "location.tgz": (lambda place: location(place, packed=True), loads("location30")),
    "polarity": (polarity, loads("rt_polarity")),
    "idx": (idx, loads("mnist")),
    "pictures": (pictures, lambda place: data.load(str(place / "set"), None, place / "cache")),
    "journal": (journal, lambda place: read_journal(place / "journal.npy")),
    "study": (study, lambda place: Study.load(place / "study.npz", HELD, ABOUT)),
    "scores": (scores, lambda place: judged(place / "scores.npz", place / "truth.npz")),
    "evidence": (evidence, load_walks),
    "opening": (
        opening,
        lambda place: Opening.from_json(_read(place / "opening.json"), "the opening").verified(),
    ),
    "settings": (
        lambda place: (place / "range.toml").write_text(SETTINGS),
        lambda place: read_settings(place / "range.toml"),
    ),
    "range.toml": (
        lambda place: shutil.copy(ROOT / "range.toml", place / "range.toml"),
        lambda place: read_settings(place / "range.toml"),
    ),
    "key": (lambda place: (place / "key").write_text("abc\n"), lambda place: read_key(None, place / "key")),
}
