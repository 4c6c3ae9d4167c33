import base64
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from server.protocols.v1 import MOST_PARTS, _without_metadata


def saved(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def b64(image, kind="PNG"):
    return {"b64": base64.b64encode(saved(image, kind)).decode()}


HEAD = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
CHUNK = b"IHDR" + HEAD
BOMB = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(HEAD)) + CHUNK + struct.pack(">I", zlib.crc32(CHUNK))
"""A PNG of which there is only a header, which promises 3.6 billion pixels."""


def predict(local, instances, model="open", headers=None):
    headers = headers or local.headers()
    return local.client.post(f"/v1/models/{model}:predict", json={"instances": instances}, headers=headers)


def test_numbers_are_answered(local, network, rows):
    reply = predict(local, rows[:2].tolist())
    probs = network.predict(rows[:2])
    for prediction, row in zip(reply.json()["predictions"], probs, strict=True):
        assert prediction["label"] == row.argmax() and prediction["class"] == "abcde"[row.argmax()]
        np.testing.assert_allclose(prediction["probabilities"], row, rtol=1e-5)


def test_instances_may_be_called_inputs(local, rows):
    headers, asked = local.headers(), rows[:2].tolist()
    reply = local.client.post("/v1/models/open:predict", json={"inputs": asked}, headers=headers)
    assert reply.status_code == 200 and reply.json() == predict(local, asked, headers=headers).json()


def test_what_is_withheld_is_null(local, rows):
    headers = local.headers()
    (prediction,) = predict(local, rows[:1].tolist(), "limited", headers).json()["predictions"]
    assert prediction["probabilities"].count(None) == 2
    (prediction,) = predict(local, rows[:1].tolist(), "labels", headers).json()["predictions"]
    assert "probabilities" not in prediction


def test_an_image_is_the_row_of_its_pixels(local, network):
    pixels = np.random.default_rng(1).integers(0, 256, (8, 8), np.uint8)
    (prediction,) = predict(local, [b64(Image.fromarray(pixels))]).json()["predictions"]
    expected = network.predict(pixels[None, None].astype(np.float32) / 255)[0]
    np.testing.assert_allclose(prediction["probabilities"], expected, rtol=1e-4)
    assert (
        predict(local, [b64(Image.fromarray(pixels), "JPEG")], headers=local.headers(name="x")).status_code == 200
    )


def described():
    """Options of a file with metadata of every kind."""
    exif, text = Image.Exif(), PngInfo()
    exif[0x010E] = "a view"
    text.add_text("Title", "a view", zip=True)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return {"exif": exif, "icc_profile": profile, "comment": "a view", "pnginfo": text}


@pytest.mark.parametrize(
    ("mode", "kind", "options"),
    [
        *((mode, "PNG", {}) for mode in ("L", "RGB", "RGBA", "P", "1", "LA", "I;16")),
        *((mode, "JPEG", options) for mode in ("L", "RGB", "CMYK") for options in ({}, {"progressive": True})),
        *(
            ("RGB", "JPEG", options)
            for options in ({"keep_rgb": True}, {"subsampling": 0}, {"restart_marker_rows": 1})
        ),
    ],
)
def test_an_image_s_metadata_does_not_change_its_pixels(mode, kind, options):
    pixels = np.random.default_rng(1).integers(0, 256, (40, 30, 3), np.uint8)
    image = Image.fromarray(pixels).convert("RGB" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257)
    plain, full = saved(image, kind, **options), saved(image, kind, **options, **described())
    left = _without_metadata(full, MOST_PARTS)
    assert b"a view" in full and b"a view" not in left and b"ICC" not in left and len(left) <= len(plain)
    for file in (plain, left):
        np.testing.assert_array_equal(Image.open(io.BytesIO(file)), Image.open(io.BytesIO(full)))


def test_a_jpeg_may_have_fill_bytes(local):
    file = saved(Image.new("L", (8, 8)), "JPEG")
    padded = file[:2] + b"\xff" * 3 + file[2:]
    headers = local.headers()
    for image in (file, padded):
        assert predict(local, [{"b64": base64.b64encode(image).decode()}], headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("instances", "status", "fault"),
    [
        ([], 400, '"instances" must be a list'),
        ("rows", 400, '"instances" must be a list'),
        ([[1, 2]], 400, "2 values; expected (n, 1, 8, 8), 64 a row"),
        ([0.5] * 64, 400, "expected (n, 1, 8, 8)"),
        ([[[["a"] * 8] * 8]], 400, "numbers only"),
        ([[[[0.0] * 8] * 6 + [[0.0] * 9, [0.0] * 7]]], 400, "differ in length"),
        ([{"b64": "####"}], 400, "not a PNG or JPEG"),
        ([{"b64": base64.b64encode(b"GIF89a").decode()}], 400, "not a PNG or JPEG"),
        ([{"png": "abc"}], 400, '{"b64": "<PNG or JPEG>"}'),
        ([{"b64": base64.b64encode(BOMB).decode()}], 400, "not a PNG or JPEG"),
        ([b64(Image.new("L", (9, 8)))], 400, "9x8 pixels; expected 8x8"),
        ([[[[0.0] * 8] * 8]] * 65, 413, "at most 64"),
    ],
)
def test_bad_instances_are_named_and_cost_nothing(local, instances, status, fault):
    headers = local.headers()
    reply = predict(local, instances, headers=headers)
    assert reply.status_code == status and fault in reply.json()["detail"]
    assert local.client.get("/v1/account", headers=headers).json()["requests"] == 0


def test_models_are_listed(local):
    headers = local.headers()
    assert local.client.get("/v1/models", headers=headers).json() == {
        "models": ["open", "limited", "labels"],
        "object": "list",
        "data": [],  # no language models
    }
    assert local.client.get("/v1/models/open", headers=headers).json() == {"name": "open", "ready": True}
