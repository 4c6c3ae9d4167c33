import json

import numpy as np
import orjson
import pytest

from wire import Malformed
from wire.tensors import DATATYPES, Tensor, pack, read_values, unpack

X = np.array([[0.5, np.nan], [1.0, -2.0]], np.float32)


@pytest.mark.parametrize("binary", [True, False])
def test_a_message_comes_back_as_it_went(binary):
    labels = np.array([3, -1], np.int64)
    body, head = pack("outputs", [Tensor("x", X, binary), Tensor("labels", labels, not binary)], {"id": "7"})
    message, (x, y) = unpack("outputs", body, head)
    assert message["id"] == "7" and (x.name, y.name) == ("x", "labels")
    assert (x.array.dtype, y.array.dtype) == (np.float32, np.int64)
    np.testing.assert_array_equal(x.array, X)
    np.testing.assert_array_equal(y.array, labels)


def test_json_alone_has_no_header_length_and_writes_nan_as_null():
    body, head = pack("outputs", [Tensor("x", X, False)], {})
    assert head is None
    assert json.loads(body)["outputs"][0]["data"] == [0.5, None, 1.0, -2.0]


def test_nested_and_flat_data_read_the_same():
    for data in ([[1, 2], [3, 4.5]], [1, 2, 3, 4.5]):
        entry = {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": data}
        _, (tensor,) = unpack("inputs", orjson.dumps({"inputs": [entry]}), None)
        np.testing.assert_array_equal(tensor.array, [[1, 2], [3, 4.5]])


def entry(**changes):
    return {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0], **changes}


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        (b"{", "invalid JSON"),
        (b"[]", "Expected `object`, got `array`"),
        ({}, '"inputs" must be a list'),
        ({"inputs": []}, "at least one tensor"),
        ({"inputs": [{"shape": [1]}]}, "missing required field `name`"),
        ({"inputs": [entry(datatype="FLOAT")]}, "datatype 'FLOAT' is not one of"),
        ({"inputs": [entry(datatype=["FP32"])]}, r"Expected `str`, got `array` - at `\$\[0\].datatype`"),
        ({"inputs": [entry(shape=[1, -2])]}, r"Expected `int` >= 0 - at `\$\[0\].shape"),
        ({"inputs": [entry(shape="12")]}, r"Expected `array`, got `str` - at `\$\[0\].shape`"),
        ({"inputs": [entry(data=[1.0])]}, "takes 2 values"),
        ({"inputs": [entry(shape=[2, 2], data=[[1.0], [2.0, 3.0, 4.0]])]}, "differ in length"),
        ({"inputs": [entry(data=[[1.0], [2.0]])]}, "a flat list, or lists nested as shape"),
        ({"inputs": [entry(data=[[[]], [[]]])]}, "a flat list, or lists nested as shape"),
        ({"inputs": [entry(data=[1.0, 2.0, 3.0])]}, "takes 2 values, but data has 3"),
        ({"inputs": [entry(data=["1.0", "2.0"])]}, "numbers only"),
        ({"inputs": [entry(data=[True, False])]}, "numbers only"),
        ({"inputs": [entry(data=[{}, 1.0])]}, "numbers only"),
        ({"inputs": [entry(datatype="INT64", data=[1.5, 2.0])]}, "INT64 only"),
        ({"inputs": [entry(datatype="UINT8", data=[1, 300])]}, "between 0 and 255"),
        ({"inputs": [{"name": "x", "shape": [1], "datatype": "FP32"}]}, "neither"),
        ({"inputs": [entry(parameters=[1])]}, "Expected `object . null`, got `array`"),
        ({"inputs": [entry(parameters={"binary_data_size": 7})]}, "takes 8 bytes"),
        ({"inputs": [entry(parameters={"binary_data_size": 8})]}, "binary_data_size is 8, but 0 are left"),
    ],
)
def test_what_is_malformed_is_named(message, fault):
    body = message if isinstance(message, bytes) else orjson.dumps(message)
    with pytest.raises(Malformed, match=fault):
        unpack("inputs", body, None)


def test_the_binary_part_must_be_as_long_as_announced():
    body, head = pack("inputs", [Tensor("x", X)], {})
    with pytest.raises(Malformed, match="binary_data_size is"):
        unpack("inputs", body[:-1], head)
    with pytest.raises(Malformed, match="take"):
        unpack("inputs", body + b"\0", head)
    with pytest.raises(Malformed, match="Inference-Header-Content-Length"):
        unpack("inputs", body, len(body) + 1)


@pytest.mark.parametrize("shape", [(1,), (784,), (2, 3), (1, 1, 4, 4), (3, 2, 1)])
@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
def test_nested_lists_of_numbers_are_read_to_the_last_bit(shape, datatype):
    numbers = np.random.default_rng(0).normal(size=shape) * 1e3
    for data in (numbers.tolist(), np.round(numbers).astype(int).tolist()):
        read = read_values(orjson.dumps(data), DATATYPES[datatype], shape)
        assert read.dtype == DATATYPES[datatype]
        np.testing.assert_array_equal(read, np.array(data).astype(DATATYPES[datatype]))


@pytest.mark.parametrize(
    "data",
    [
        [True, False],
        [[True], [False]],
        [[0.5], [0.5, 0.5]],
        [[0.5], 0.5],
        [0.5, [0.5]],
        [["ab"], ["cd"]],
        ["0.5"],
        [[0.5], "x"],
        [{"a": 1}],
        0.5,
        "0.5",
    ],
)
def test_lists_of_anything_else_are_refused(data):
    with pytest.raises(Malformed):
        read_values(orjson.dumps(data), DATATYPES["FP32"], (2, 1))


TEXTS = np.array([["words", ""], ["naïve\0", "🎬 film"]], dtype=object)


@pytest.mark.parametrize("binary", [True, False])
def test_texts_come_back_as_they_went(binary):
    body, head = pack("inputs", [Tensor("t", TEXTS, binary), Tensor("x", X, binary)], {})
    _, (t, x) = unpack("inputs", body, head)
    assert (t.datatype, t.array.shape, t.array.tolist()) == ("BYTES", (2, 2), TEXTS.tolist())
    np.testing.assert_array_equal(x.array, X)


def test_texts_are_written_as_the_protocol_says():
    body, head = pack("inputs", [Tensor("t", np.array(["é", "a"], dtype=object))], {})
    assert body[head:] == b"\x02\x00\x00\x00\xc3\xa9\x01\x00\x00\x00a"
    assert json.loads(body[:head])["inputs"][0]["parameters"] == {"binary_data_size": 11}


def test_texts_are_read_as_tritonclient_writes_them():
    client = pytest.importorskip("tritonclient.http")
    tensor = client.InferInput("t", [2], "BYTES")
    tensor.set_data_from_numpy(np.array(["é", "a b"], dtype=object))
    raw = tensor._get_binary_data()
    head = orjson.dumps({"inputs": [tensor._get_tensor()]})
    _, (t,) = unpack("inputs", head + raw, len(head))
    assert t.array.tolist() == ["é", "a b"]


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        ([1, "a"], "Expected `str`, got `int`"),
        ([None, "a"], "Expected `str`, got `null`"),
        ([["a", "b"]], "Expected `str`, got `array`"),
        ("ab", "Expected `array`, got `str`"),
        (["a"], "takes 2 values"),
    ],
)
def test_what_are_no_texts_is_named(data, fault):
    with pytest.raises(Malformed, match=fault):
        unpack("inputs", orjson.dumps({"inputs": [entry(datatype="BYTES", shape=[2], data=data)]}), None)


@pytest.mark.parametrize(
    ("raw", "size", "shape", "fault"),
    [
        (b"\x01\x00\x00\x00\xff", 5, [1], "string 0 is not valid UTF-8"),
        (b"\x02\x00\x00\x00a", 5, [1], "string 0 ends at byte 6 of 5"),
        (b"\xff\xff\xff\xffa", 5, [1], "string 0 ends at byte"),
        (b"\x01\x00\x00\x00ab", 6, [1], "take 5 bytes, but binary_data_size is 6"),
        (b"\x00\x00\x00\x00\x00", 5, [1], "take 4 bytes, but binary_data_size is 5"),
        (b"\x01\x00\x00\x00a\x00\x00", 7, [2], "2 strings take at least 8 bytes"),
        (b"\x00\x00\x00\x00\x01\x00\x00\x00", 8, [2], "string 1 ends at byte 9 of 8"),
        (b"abcd", 4, [2**31 - 1], "take at least"),
        (b"abcd", 5, [1], "4 are left in the body"),
        (b"abcd", -4, [0], "binary_data_size is -4"),
        (b"abcd", None, [1], "neither"),
    ],
)
def test_raw_texts_are_read_with_care(raw, size, shape, fault):
    tensor = {"name": "t", "shape": shape, "datatype": "BYTES", "parameters": {"binary_data_size": size}}
    head = orjson.dumps({"inputs": [tensor]})
    with pytest.raises(Malformed, match=fault):
        unpack("inputs", head + raw, len(head))


def test_a_lone_surrogate_is_no_text():
    body = rb'{"inputs": [{"name": "t", "shape": [1], "datatype": "BYTES", "data": ["\ud800"]}]}'
    with pytest.raises(Malformed, match="invalid JSON"):
        unpack("inputs", body, None)
