"""Triton's own client against our server."""

import numpy as np
import pytest
from parts import SHAPE

triton = pytest.importorskip("tritonclient.http")
from tritonclient.utils import InferenceServerException  # noqa: E402  # after it is known to be there


@pytest.fixture(scope="module")
def headers(reached):
    _, key = reached
    return {"Authorization": f"Bearer {key('triton')}"}


@pytest.fixture(scope="module")
def client(reached):
    url, _ = reached
    with triton.InferenceServerClient(url.removeprefix("http://")) as client:
        yield client


def given(x, binary=True):
    tensor = triton.InferInput("input", list(x.shape), "FP32")
    tensor.set_data_from_numpy(x, binary_data=binary)
    return [tensor]


def test_what_is_ready(client, headers):
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("open", headers=headers)
    assert client.is_model_ready("open", model_version="1", headers=headers)
    assert not client.is_model_ready("open", model_version="2", headers=headers)
    assert not client.is_model_ready("other", headers=headers)


def test_metadata(client, headers):
    server = client.get_server_metadata()
    assert server["name"] == "mlaas-range" and server["extensions"] == ["binary_tensor_data"] and server["version"]
    for version in ("", "1"):
        model = client.get_model_metadata("open", model_version=version, headers=headers)
        assert (model["name"], model["versions"]) == ("open", ["1"])
        assert "_" in model["platform"]  # <project>_<format>
        assert model["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, *SHAPE]}]
        assert [(t["name"], t["datatype"], t["shape"]) for t in model["outputs"]] == [
            ("labels", "INT64", [-1]),
            ("probabilities", "FP32", [-1, 5]),
        ]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
@pytest.mark.parametrize("encoding", [None, "gzip", "deflate"])
def test_infer(client, headers, network, rows, binary_in, binary_out, encoding):
    names = ("probabilities", "labels")
    asked = None if binary_out is None else [triton.InferRequestedOutput(n, binary_data=binary_out) for n in names]
    result = client.infer(
        "open",
        given(rows[:5], binary_in),
        outputs=asked,
        request_id="2ja0",
        model_version="1",
        headers=dict(headers),
        request_compression_algorithm=encoding,
        response_compression_algorithm=encoding,
    )
    told = result.get_response()
    assert (told["id"], told["model_name"], told["model_version"]) == ("2ja0", "open", "1")
    if asked:
        assert [output["name"] for output in told["outputs"]] == list(names)
    in_binary = ["binary_data_size" in output.get("parameters", {}) for output in told["outputs"]]
    assert in_binary == [binary_out is not False] * 2  # it asks for binary unless it is told otherwise
    probs = network.predict(rows[:5])
    np.testing.assert_allclose(result.as_numpy("probabilities"), probs, atol=1e-5)
    np.testing.assert_array_equal(result.as_numpy("labels"), probs.argmax(axis=1))
    assert result.as_numpy("labels").dtype == np.int64


def test_one_output_alone_and_without_an_id(client, headers, rows):
    asked = [triton.InferRequestedOutput("labels")]
    told = client.infer("open", given(rows[:2]), outputs=asked, headers=dict(headers)).get_response()
    assert [output["name"] for output in told["outputs"]] == ["labels"] and "id" not in told


def test_concurrent_requests(client, headers, network, rows):
    futures = [client.async_infer("open", given(rows[i : i + 1]), headers=dict(headers)) for i in range(20)]
    labels = [future.get_result().as_numpy("labels")[0] for future in futures]
    np.testing.assert_array_equal(labels, network.predict(rows[:20]).argmax(axis=1))


def test_refusals_are_exceptions_with_our_text(client, headers, rows):
    def refused(status, fault, call, *arguments, **options):
        with pytest.raises(InferenceServerException, match=fault) as caught:
            call(*arguments, headers=dict(headers), **options)
        assert caught.value.status() == str(status)

    x = rows[:1]
    refused(400, "expected", client.infer, "open", given(np.zeros((1, 3), np.float32)))
    refused(404, "no model 'other' here", client.infer, "other", given(x))
    refused(404, "no version '7' of model 'open'", client.infer, "open", given(x), model_version="7")
    refused(413, "at most 64 are answered", client.infer, "open", given(rows[:65]))
    refused(404, "no model 'other' here", client.get_model_metadata, "other")
    with pytest.raises(InferenceServerException, match="no key"):
        client.infer("open", given(x))
    # What other extensions would do to the answer is not passed over.
    refused(400, "'sequence_id' is not offered", client.infer, "open", given(x), sequence_id=7)
    refused(400, "'priority' is not offered", client.infer, "open", given(x), priority=1)
    refused(400, "'timeout' is not offered", client.infer, "open", given(x), timeout=1000)
    classes = [triton.InferRequestedOutput("probabilities", class_count=2)]
    refused(400, "'classification' is not offered", client.infer, "open", given(x), outputs=classes)
    shared = [triton.InferRequestedOutput("labels")]
    shared[0].set_shared_memory("region", 8)
    refused(400, "'shared_memory_region' is not offered", client.infer, "open", given(x), outputs=shared)
    tensor = triton.InferInput("input", [1, *SHAPE], "FP32")
    tensor.set_shared_memory("region", 256)
    refused(400, "shared memory is not offered", client.infer, "open", [tensor])


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ("get_model_repository_index", ()),
        ("load_model", ("open",)),
        ("unload_model", ("open",)),
        ("get_model_config", ("open",)),
        ("get_inference_statistics", ()),
        ("get_inference_statistics", ("open",)),
        ("get_trace_settings", ()),
        ("get_log_settings", ()),
        ("get_system_shared_memory_status", ()),
        ("get_cuda_shared_memory_status", ()),
        ("register_system_shared_memory", ("a", "/b", 8)),
        ("unregister_system_shared_memory", ()),
    ],
)
def test_what_is_not_offered_is_not_found(client, headers, call, arguments):
    with pytest.raises(InferenceServerException) as caught:
        getattr(client, call)(*arguments, headers=dict(headers))
    assert caught.value.status() == "404" and caught.value.message()
