"""Our clients, attackers and owner against servers of the protocol that are not ours."""

import dataclasses
import json
from contextlib import closing

import numpy as np
import pytest
from other_servers import CLASSES, SIDES, OpenVinoShaped, Silent, TritonShaped, logits, served

import attacker.command
import owner.command
from wire import BadInput, Malformed, Oracle, Refused
from wire.http import CardOptions, Endpoint
from zoo.data.pool import Pool

LOGITS = CardOptions(output=("fc6_1=logits",), range=(0.0, 1.0))


@pytest.fixture
def rows():
    return np.random.default_rng(1).random((60, *SIDES), np.float32)


@pytest.mark.parametrize(("server", "most", "binary"), [(TritonShaped(), 8, True), (OpenVinoShaped(), 1, False)])
def test_a_foreign_model_is_asked_as_it_wants(server, most, binary, rows):
    with served(server) as url, closing(Endpoint(url, model="net", options=LOGITS)) as endpoint:
        card = endpoint.card
        assert (card.input_name, card.input_shape, card.classes, card.max_rows) == ("data_0", SIDES, CLASSES, most)
        answer = Oracle(endpoint, card).query(rows[:11])
        assert endpoint.prices() is None
    assert server.requests == [(n, binary) for n in {8: (8, 3), 1: (1,) * 11}[most]]
    np.testing.assert_array_equal(answer.labels, logits(rows[:11]).argmax(axis=1))
    odds = np.exp(logits(rows[:11]).astype(np.float64))
    np.testing.assert_allclose(answer.probs, odds / odds.sum(axis=1, keepdims=True), rtol=1e-5)


def test_logits_that_are_taken_for_probabilities_are_noticed(rows):
    expected = pytest.raises(Malformed, match="pass --output fc6_1=logits")
    with served(TritonShaped()) as url, closing(Endpoint(url, model="net")) as endpoint, expected:
        endpoint(rows[:5])


def test_what_a_server_says_when_it_refuses_is_told(rows):
    bold = dataclasses.replace(LOGITS, max_rows=20)
    with served(TritonShaped()) as url, closing(Endpoint(url, model="net", options=bold)) as endpoint:
        with pytest.raises(Refused, match="batch-size must be <= 8") as caught:
            endpoint(rows[:9])
        assert caught.value.status == 400
        with pytest.raises(Refused, match="unknown model"):
            Endpoint(url, model="other")


def test_a_card_that_is_not_told_is_given(rows):
    options = dataclasses.replace(LOGITS, input="data_0", shape=SIDES, classes=CLASSES)
    with served(Silent()) as url, closing(Endpoint(url, model="net", options=options)) as endpoint:
        assert (endpoint.card.input_shape, endpoint.card.classes, endpoint.card.max_rows) == (SIDES, CLASSES, 8)
        np.testing.assert_array_equal(endpoint(rows[:5]).labels, logits(rows[:5]).argmax(axis=1))
        for lacking, fault in ({"shape": ()}, "--input NAME and --shape"), ({"output": ()}, "--output NAME="):
            with pytest.raises(BadInput, match=fault):
                Endpoint(url, model="net", options=dataclasses.replace(options, **lacking))
        with pytest.raises(BadInput, match="does not list its models: name one"):
            Endpoint(url)


@pytest.mark.parametrize("server", [TritonShaped(), OpenVinoShaped()], ids=["triton", "openvino"])
def test_every_party_works_on_it(server, rows, tmp_path):
    y = logits(rows).argmax(axis=1)
    Pool(rows, y).save(tmp_path / "all.npz")
    Pool(rows[:30], y[:30]).save(tmp_path / "private.npz")
    Pool(rows[30:], y[30:]).save(tmp_path / "unseen.npz")
    card = ["--model", "net", "--output", "fc6_1=logits", "--range", "0", "1"]
    victim = [f"--victim-{flag[2:]}" if flag.startswith("--") else flag for flag in card]
    files = ["--private", str(tmp_path / "private.npz"), "--unseen", str(tmp_path / "unseen.npz")]
    with served(server) as url:
        knockoff = ["knockoff", "--budget", "40", "--pool", str(tmp_path / "all.npz"), "--epochs", "2"]
        attacker.command.main(
            [*knockoff, "--family", "mlp", "--url", url, *card, "--out", str(tmp_path / "stolen")]
        )
        asked = ["confidence", "--budget", "60", "--candidates", str(tmp_path / "all.npz")]
        attacker.command.main([*asked, "--url", url, *card, "--out", str(tmp_path / "spied")])
        counted = sum(n for n, _ in server.requests)
        assert counted == 100
        for folder, spent in (("stolen", 40), ("spied", 60)):
            result = json.loads((tmp_path / folder / "result.json").read_text())
            assert (result["status"], result["rows"], result["money"]) == ("done", spent, None)
        small = ["--fit-images", "4", "--test-images", "4", "--starts", "1", "--walk-steps", "3"]
        proof = ["dataset-inference", "--url", url, *card, "--victim", url, *victim, *files, *small]
        owner.command.main([*proof, "--out", str(tmp_path / "evidence.json")])
        evidence = json.loads((tmp_path / "evidence.json").read_text())
        asked = evidence["suspect_queries"] + evidence["details"]["victim_queries"]
        assert asked == sum(n for n, _ in server.requests) - 100
