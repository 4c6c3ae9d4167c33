import asyncio
import gzip
import zlib

import httpx
import numpy as np
import orjson
import pytest
from parts import Local

from wire.tensors import HEADER_LENGTH, Tensor, pack, unpack


def request(x, binary=False, **fields):
    body, head = pack("inputs", [Tensor("input", x, binary)], fields)
    return body, {} if head is None else {HEADER_LENGTH: str(head)}


def infer(local, headers, x, model="open", binary=False, **fields):
    body, more = request(x, binary, **fields)
    return local.client.post(f"/v2/models/{model}/infer", content=body, headers={**headers, **more})


def outputs(reply):
    assert reply.status_code == 200, reply.text
    length = reply.headers.get(HEADER_LENGTH)
    message, tensors = unpack("outputs", reply.content, None if length is None else int(length))
    return message, {tensor.name: tensor.array for tensor in tensors}


def test_json_and_binary_answer_alike_and_as_the_bare_model(local, network, rows):
    headers, probs = local.headers(), network.predict(rows[:5])
    for binary_in in (True, False):
        for binary_out in (True, False):
            fields = {"parameters": {"binary_data_output": binary_out}, "id": "7"}
            message, got = outputs(infer(local, headers, rows[:5], binary=binary_in, **fields))
            assert (message["model_name"], message["model_version"], message["id"]) == ("open", "1", "7")
            np.testing.assert_array_equal(got["labels"], probs.argmax(axis=1))
            np.testing.assert_allclose(got["probabilities"], probs, atol=1e-5)


def test_outputs_can_be_chosen(local, rows):
    chosen = [{"name": "labels", "parameters": {"binary_data": True}}]
    reply = infer(local, local.headers(), rows[:3], outputs=chosen)
    assert list(outputs(reply)[1]) == ["labels"] and HEADER_LENGTH in reply.headers


def test_a_policy_withholds(local, rows):
    headers = local.headers()
    _, got = outputs(infer(local, headers, rows[:4], "limited"))
    assert (np.isnan(got["probabilities"]).sum(axis=1) == 2).all()
    np.testing.assert_array_equal(np.round(got["probabilities"], 2), got["probabilities"])
    assert list(outputs(infer(local, headers, rows[:4], "labels"))[1]) == ["labels"]
    reply = infer(local, headers, rows[:4], "labels", outputs=[{"name": "probabilities"}])
    assert reply.status_code == 400 and "disclosed: labels" in reply.json()["error"]
    names = [output["name"] for output in local.client.get("/v2/models/labels", headers=headers).json()["outputs"]]
    assert names == ["labels"]


def test_the_protocol_s_other_routes(local):
    client, headers = local.client, local.headers()
    assert "binary_tensor_data" in client.get("/v2").json()["extensions"]
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2/models/open/ready", headers=headers).json() == {"name": "open", "ready": True}
    assert client.get("/v2/models/open/versions/1/ready", headers=headers).status_code == 200
    assert client.get("/v2/models/open/versions/2", headers=headers).status_code == 404
    card = client.get("/v2/models/limited", headers=headers).json()
    assert card["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 1, 8, 8]}]
    assert card["parameters"] == {
        "classes": list("abcde"),
        "low": 0.0,
        "high": 1.0,
        "max_rows": 64,
        "missing": False,
        "features": [],
        "top_k": 3,
        "digits": 2,
        "noise": 0.05,
    }
    assert client.get("/openapi.json").json()["paths"]["/v2/models/{model}/infer"]["post"]["requestBody"]
    assert client.get("/docs").status_code == 200


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_compressed_bodies_are_read_and_bounded(local, rows, encoding):
    headers = {**local.headers(), "Content-Encoding": encoding}
    squeeze = gzip.compress if encoding == "gzip" else zlib.compress
    body, more = request(rows[:2], True)
    post = local.client.post
    assert post("/v2/models/open/infer", content=squeeze(body), headers={**headers, **more}).status_code == 200
    bomb = squeeze(b" " * (local.settings.max_body + 1))
    reply = post("/v2/models/open/infer", content=bomb, headers=headers)
    assert reply.status_code == 413 and "after decompression" in reply.json()["detail"]
    for broken in (b"not compressed", squeeze(body)[:-4]):
        reply = post("/v2/models/open/infer", content=broken, headers=headers)
        assert reply.status_code == 400 and encoding in reply.json()["detail"]


def json_body(**changes):
    entry = {"name": "input", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": [0.5] * 64, **changes}
    return orjson.dumps({"inputs": [entry]})


BAD = {
    "shape": (json_body(shape=[1, 64]), 400, "expected (n, 1, 8, 8)"),
    "no rows": (json_body(shape=[0, 1, 8, 8], data=[]), 400, "with n from 1 to 64"),
    "datatype": (json_body(datatype="FP64"), 400, "expected FP32"),
    "range": (json_body(data=[1.5] * 64), 400, "expected values from 0.0 to 1.0"),
    "null": (json_body(data=[None] * 64), 400, "every value must be a finite number"),
    "infinity": (json_body(data=[1e39] * 64), 400, "must be a finite number"),
    "rows": (json_body(shape=[65, 1, 8, 8], data=[0.5] * 64 * 65), 413, "65 rows in one request; at most 64"),
    "input": (json_body(name="image"), 400, 'expected the one input "input", not image'),
    "json": (b'{"inputs": [', 400, "invalid JSON"),
    "outputs": (json_body()[:-1] + b', "outputs": 3}', 400, "Expected `array | null`, got `int` - at `$.outputs`"),
    "a side too many": (json_body(shape=[1] * 9 + [64]), 400, "Expected `array` of length <= 8"),
    "a shape beyond memory": (json_body(shape=[0, 2**63]), 400, "Expected `int` <= 2147483647"),
    "a long string among numbers": (json_body(data=[0.5] * 63 + ["x" * 100_000]), 400, "numbers only"),
    "an id that is no string": (
        json_body()[:-1] + b', "id": 7}',
        400,
        "Expected `str | null`, got `int` - at `$.id`",
    ),
    "an output twice": (
        json_body()[:-1] + b', "outputs": [{"name": "labels"}, {"name": "labels"}]}',
        400,
        "asked for twice",
    ),
    "shared memory": (
        orjson.dumps(
            {
                "inputs": [
                    {
                        "name": "input",
                        "shape": [1, 1, 8, 8],
                        "datatype": "FP32",
                        "parameters": {"shared_memory_region": "x", "shared_memory_byte_size": 256},
                    }
                ]
            }
        ),
        400,
        "shared memory is not offered",
    ),
    "a sequence": (json_body()[:-1] + b', "parameters": {"sequence_id": 3}}', 400, "'sequence_id' is not offered"),
    "classification": (
        json_body()[:-1] + b', "outputs": [{"name": "labels", "parameters": {"classification": 2}}]}',
        400,
        "'classification' is not offered",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named_and_costs_nothing(local, name):
    body, status, fault = BAD[name]
    headers = local.headers()
    reply = local.client.post("/v2/models/open/infer", content=body, headers=headers)
    assert reply.status_code == status
    assert reply.headers["Content-Type"] == "application/problem+json"
    problem = reply.json()
    assert fault in problem["detail"] and problem["error"] == problem["detail"] and problem["status"] == status
    assert local.client.get("/v1/account", headers=headers).json()["requests"] == 0


def test_a_row_s_bytes_alone_are_a_request(local, network, rows):
    raw = {**local.headers(), HEADER_LENGTH: "0"}
    reply = local.client.post("/v2/models/open/infer", content=rows[:1].tobytes(), headers=raw)
    message, got = outputs(reply)
    assert HEADER_LENGTH in reply.headers and "id" not in message
    np.testing.assert_array_equal(got["labels"], network.predict(rows[:1]).argmax(axis=1))
    reply = local.client.post("/v2/models/open/infer", content=rows[:2].tobytes(), headers=raw)
    assert (
        reply.status_code == 400 and "512 bytes without JSON; one row, (1, 8, 8) of FP32, takes 256" in reply.text
    )


def test_more_json_than_is_read_at_once_is_refused(local, rows):
    spaces = b" " * local.settings.max_json
    for path, body in (("v2/models/open/infer", json_body()), ("v1/models/open:predict", b"{}")):
        reply = local.client.post(path, content=body + spaces, headers=local.headers(name=path[:2]))
        assert reply.status_code == 413 and f"at most {local.settings.max_json} are read" in reply.json()["detail"]
    body, more = request(np.repeat(rows, 4, axis=0)[:64], binary=True)
    padded = body[: int(more[HEADER_LENGTH])] + spaces + body[int(more[HEADER_LENGTH]) :]
    more = {HEADER_LENGTH: str(int(more[HEADER_LENGTH]) + len(spaces))}
    reply = local.client.post("/v2/models/open/infer", content=padded, headers=local.headers(name="x") | more)
    assert reply.status_code == 413


def test_the_slash_and_the_root_that_other_clients_ask(local):
    assert local.client.get("/v2/").json() == local.client.get("/v2").json()
    assert local.client.get("/").json() == {"status": "alive"}
    assert local.client.get("/v2/models/open/", headers=local.headers()).status_code == 404


def test_nan_in_binary_is_refused(local, rows):
    x = rows[:2].copy()
    x[1, 0, 3, 3] = np.nan
    reply = infer(local, local.headers(), x, binary=True)
    assert reply.status_code == 400 and "row 1 holds nan" in reply.json()["detail"]


def test_a_body_over_the_limit_is_refused(local):
    reply = local.client.post(
        "/v2/models/open/infer", content=b" " * (local.settings.max_body + 1), headers=local.headers()
    )
    assert reply.status_code == 413 and "at most 1064960 are read" in reply.json()["detail"]


@pytest.mark.parametrize("length", ["x", "-1", "99999", "9" * 5000])
def test_a_broken_header_length_is_refused(local, length):
    headers = {**local.headers(), HEADER_LENGTH: length}
    reply = local.client.post("/v2/models/open/infer", content=json_body(), headers=headers)
    assert reply.status_code == 400 and HEADER_LENGTH in reply.json()["detail"]


def test_keys_and_names_are_checked(local):
    post, headers = local.client.post, local.headers()
    for wrong in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic abc"}):
        reply = post("/v2/models/open/infer", content=json_body(), headers=wrong)
        assert reply.status_code == 401 and reply.headers["WWW-Authenticate"] == "Bearer"
    reply = post("/v2/models/other/infer", content=json_body(), headers=headers)
    assert reply.status_code == 404 and "there are open, limited, labels" in reply.json()["detail"]
    assert local.client.get("/nowhere").headers["Content-Type"] == "application/problem+json"
    assert local.client.get("/v2/models/open/infer").status_code == 405


def test_a_body_that_does_not_come_is_not_waited_for(config, rows):
    config.write_text("body_seconds = 0.05\n" + config.read_text())
    server = Local(config)

    async def slow():
        yield b"{"
        await asyncio.sleep(5)

    async def post():
        transport = httpx.ASGITransport(server.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://local") as client:
            return await client.post("/v2/models/open/infer", content=slow(), headers=headers)

    headers = server.headers()
    reply = asyncio.run(post())
    assert reply.status_code == 408 and "0.05 seconds" in reply.json()["detail"]
