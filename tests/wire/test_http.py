import httpx
import numpy as np
import orjson
import pytest

from wire import BadInput, Malformed, Refused, Unreachable
from wire.http import CardOptions, Endpoint
from wire.patient import Patient
from wire.tensors import HEADER_LENGTH, Tensor, pack, unpack
from wire.types import BLUR


class Foreign:
    """A server of the protocol that is not ours: no accounts, no parameters, JSON alone."""

    def __init__(self, replies=(), datatype="FP64", parameters=None):
        self.replies, self.requests = list(replies), []
        self.datatype, self.parameters = datatype, parameters

    def __call__(self, request):
        path = request.url.path
        if path == "/v2":
            return httpx.Response(200, json={"name": "foreign"})
        if path == "/v1/models":
            return httpx.Response(200, json={"models": ["a", "b"]})
        if path == "/v2/models/a":
            outputs = [{"name": "scores", "datatype": "FP32", "shape": [-1, 3]}]
            inputs = [{"name": "image", "datatype": self.datatype, "shape": [-1, 2]}]
            metadata = {"name": "a", "inputs": inputs, "outputs": outputs, "parameters": self.parameters}
            return httpx.Response(200, json=metadata)
        if path != "/v2/models/a/infer":
            return httpx.Response(404, json={"error": "not found"})
        self.requests.append(request)
        reply = self.replies.pop(0) if self.replies else None
        if isinstance(reply, Exception):
            raise reply
        if reply is not None:
            return reply
        message, (x,) = unpack("inputs", request.content, None)
        scores = np.stack([x.array[:, 0], x.array[:, 1], 0 * x.array[:, 0]], axis=1).astype(np.float32) / 10
        body, _ = pack("outputs", [Tensor("scores", scores, False)], {"id": message["id"]})
        return httpx.Response(200, content=body)


def endpoint(server, **arguments):
    client = httpx.Client(transport=httpx.MockTransport(server))
    return Endpoint("http://there/v2/models/a", client=client, sleep=lambda seconds: None, **arguments)


X = np.array([[1.0, 2.0], [5.0, 0.0]])


def test_a_foreign_card_is_read_and_completed():
    card = endpoint(Foreign(), options=CardOptions(range=(0.0, 255.0), max_rows=7)).card
    assert (card.dtype, card.input_name, card.input_shape, card.classes) == ("FP64", "image", (2,), 3)
    assert (card.low, card.high, card.max_rows, card.tells_probs) == (0.0, 255.0, 7, True)


def test_the_range_of_each_feature_is_read():
    told = [{"name": "age", "categories": [], "low": 17, "high": 90.5}, {"name": "work", "categories": ["a", "b"]}]
    features = endpoint(Foreign(parameters={"features": told})).card.features
    assert [(feature.name, feature.low, feature.high) for feature in features] == [
        ("age", 17.0, 90.5),
        ("work", None, None),
    ]
    with pytest.raises(Malformed, match="violates the protocol"):
        endpoint(Foreign(parameters={"features": [{"name": "age", "low": "few"}]}))


@pytest.mark.parametrize("told", [None, {"low": 0.0, "high": 255.0}])
def test_where_bytes_travel_rows_are_held_as_floats_from_0_to_1(told):
    server = Foreign(datatype="UINT8", parameters=told)
    ask = endpoint(server, options=CardOptions(output=("scores=logits",)))
    assert (ask.card.dtype, ask.card.low, ask.card.high) == ("UINT8", 0.0, 1.0)
    every = np.arange(256, dtype=np.float32).reshape(-1, 2)
    for rows in (every / 255, every * np.float32(1 / 255), every.astype(np.uint8)):
        ask(rows)
        _, (sent,) = unpack("inputs", server.requests[-1].content, None)
        np.testing.assert_array_equal(sent.array, every)
    for value, name in ((0.5, "0.5"), (-1 / 255, "-0.00392157"), (256 / 255, "1.00392"), (np.nan, "nan")):
        with pytest.raises(Malformed, match=f"row 1 holds {name}, but the model takes bytes: .* 1/255"):
            ask(np.array([[0, 1], [0, value]], np.float32))


def test_small_whole_numbers_travel_as_they_are():
    server = Foreign(datatype="UINT8", parameters={"low": 0, "high": 9})
    ask = endpoint(server, options=CardOptions(output=("scores=logits",)))
    ask(np.array([[1.0, 9.0]]))
    _, (sent,) = unpack("inputs", server.requests[-1].content, None)
    assert (ask.card.low, ask.card.high, sent.array.tolist()) == (0, 9, [[1, 9]])


def test_labels_are_the_greatest_score_and_logits_become_probabilities():
    answer = endpoint(Foreign(), options=CardOptions(output=("scores=logits",)))(X)
    np.testing.assert_array_equal(answer.labels, [1, 0])
    np.testing.assert_allclose(answer.probs.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(answer.probs[0, 1] / answer.probs[0, 0], np.exp(0.1), rtol=1e-5)


def test_a_lost_reply_is_asked_for_again_under_the_same_id():
    server = Foreign([httpx.ReadError("lost"), httpx.RemoteProtocolError("lost")])
    np.testing.assert_array_equal(endpoint(server)(X).labels, [1, 0])
    ids = {orjson.loads(request.content)["id"] for request in server.requests}
    assert len(server.requests) == 3 and len(ids) == 1


def test_two_requests_have_two_ids():
    server = Foreign()
    ask = endpoint(server)
    ask(X), ask(X)
    assert len({orjson.loads(request.content)["id"] for request in server.requests}) == 2


def test_no_answer_is_unreachable():
    with pytest.raises(Unreachable, match="there"):
        endpoint(Foreign([httpx.ConnectError("refused")] * 3))(X)
    with pytest.raises(Unreachable, match="HTTP 500"):
        endpoint(Foreign([httpx.Response(500, text="oops")]))(X)


def test_refusals_carry_what_the_server_said():
    headers = {"Retry-After": "3", "RateLimit": '"rows";r=40;t=1, "day";r=12;t=60'}
    with pytest.raises(Refused, match="too fast") as caught:
        endpoint(Foreign([httpx.Response(429, json={"error": "too fast"}, headers=headers)]))(X)
    assert (caught.value.status, caught.value.retry_after, caught.value.left) == (429, 3.0, 12)


def test_an_answer_about_other_rows_is_malformed():
    body, _ = pack("outputs", [Tensor("scores", np.zeros((1, 3), np.float32), False)], {})
    with pytest.raises(Malformed, match=r'2 rows, but output "scores" has shape \(1, 3\)'):
        endpoint(Foreign([httpx.Response(200, content=body)]))(X)


@pytest.mark.parametrize(
    "metadata",
    [
        b"<html>",
        b'{"inputs": 3}',
        b'{"inputs": [{"name": "image", "datatype": "FP64"}]}',
        b'{"inputs": [{"name": "image", "datatype": "FP64", "shape": []}]}',
        b'{"inputs": [{"name": "image", "datatype": "FP64", "shape": ["x"]}]}',
        b'{"inputs": [{"name": "image", "datatype": "FP64", "shape": [-1, 2]}], "outputs": [{}]}',
        b'{"inputs": [{"name": "image", "datatype": "FP64", "shape": [-1, 2]}], "outputs": [{"name": "x", '
        b'"datatype": "FP32", "shape": [-1, 3]}], "parameters": [1]}',
    ],
)
def test_metadata_that_is_none_is_malformed(metadata):
    def server(request):
        return httpx.Response(200, content=metadata) if request.url.path == "/v2/models/a" else Foreign()(request)

    with pytest.raises(Malformed, match="http://there/v2/models/a: "):
        endpoint(server)


def test_an_answer_that_tells_nothing_or_lies_of_its_length_is_malformed():
    nothing, _ = pack("outputs", [Tensor("scores", np.full((2, 3), np.nan, np.float32), False)], {})
    with pytest.raises(Malformed, match="neither a label nor a probability"):
        endpoint(Foreign([httpx.Response(200, content=nothing)]))(X)
    for length in ("x", "-3", "1" * 20):
        with pytest.raises(Malformed, match=HEADER_LENGTH):
            endpoint(Foreign([httpx.Response(200, content=nothing, headers={HEADER_LENGTH: length})]))(X)


def test_classes_are_counted_where_only_labels_are_asked_for():
    card = endpoint(Foreign(), options=CardOptions(output=("best=labels",))).card
    assert (card.classes, card.tells_probs) == (3, False)
    assert endpoint(Foreign(), options=CardOptions(classes=7)).card.classes == 7


@pytest.mark.parametrize(
    ("url", "options", "fault"),
    [
        ("http://there", CardOptions(), "serves a, b: name one with --model"),
        ("ftp://there/v2/models/a", CardOptions(), "expected http://"),
        ("nowhere/v2/models/a", CardOptions(), "expected http://"),
        ("http://there/v2/models/a", CardOptions(output=("scores=guess",)), "NAME=labels"),
        ("http://there/v2/models/a", CardOptions(input="other"), 'no input "other"; there are image'),
    ],
)
def test_what_a_person_got_wrong_is_said(url, options, fault):
    client = httpx.Client(transport=httpx.MockTransport(Foreign()) if "there" in url and "http" in url else None)
    with pytest.raises(BadInput, match=fault):
        Endpoint(url, client=client, options=options)


class Busy:
    """Refuses some times, then answers."""

    def __init__(self, *refusals):
        self.refusals = list(refusals)

    def __call__(self, x):
        if self.refusals:
            raise self.refusals.pop(0)
        return len(x)


def test_patience_waits_as_it_is_told():
    waits = []
    busy = Busy(
        Refused("later", status=429, retry_after=2), Refused("away", status=503), Refused("away", status=503)
    )
    assert Patient(busy, sleep=waits.append)(X) == 2
    assert waits == [2, 2.0, 4.0]


def test_patience_has_an_end():
    with pytest.raises(Refused, match="tomorrow"):
        Patient(Busy(Refused("tomorrow", status=429, retry_after=86400)), patience=60)(X)
    with pytest.raises(Refused, match="forbidden"):
        Patient(Busy(Refused("forbidden", status=403, retry_after=1)), sleep=pytest.fail)(X)
    with pytest.raises(Refused, match="later"):
        Patient(Busy(Refused("later", status=429, retry_after=1)), sleep=lambda seconds: True)(X)


@pytest.mark.parametrize("said", [{"noise": 0.05, "digits": 2, "top_k": 3}, {"temperature": 2}, {}])
def test_the_card_is_told_how_probabilities_are_blurred(said):
    def server(request):
        reply = Foreign()(request)
        if request.url.path != "/v2/models/a":
            return reply
        return httpx.Response(200, json={**reply.json(), "parameters": said})

    card = endpoint(server).card
    assert {name: getattr(card, name) for name in BLUR if getattr(card, name) is not None} == said
    for wrong in ("2", -1, True, 2.5, [1]):
        said["top_k"] = wrong
        with pytest.raises(Malformed, match="top_k"):
            endpoint(server)
