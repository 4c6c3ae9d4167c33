"""An encoder behind the protocols, and what cannot protect it."""

import numpy as np
import pytest

from attacker.asking import NotApplicable
from attacker.extraction.encoder import Encoder as EncoderTheft
from attacker.extraction.knockoff import Knockoff
from attacker.runner import conduct
from defenses import B4b, Consequence, Dawn, Hoda, LabelOnly, Monitored, Prada, Rounding, TopK, disclosed
from server.inprocess import serve
from wire import Answer, BadInput, Card, Oracle
from wire.http import CardOptions, Endpoint
from zoo import folder
from zoo.data.pool import Pool
from zoo.families.encoder import Encoder

SHAPE = (1, 8, 8)
CARD = Card("m", SHAPE, 0, tells_probs=False, embedding=12)


@pytest.fixture(scope="module")
def encoder():
    made = Encoder(4, 12).untrained(Card("", SHAPE, 0), seed=0, device="cpu")
    made.module.eval()
    return made


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    return tmp_path_factory.mktemp("state")  # the encoder is exported once


def rows(n):
    return np.random.default_rng(n).random((n, *SHAPE), np.float32)


def test_embeddings_over_both_protocols(encoder, state):
    x = rows(5)
    with serve(
        encoder, defenses=[Prada(0.9)], progress=False, plans={"attacker": {"defenses": [{"type": "label_only"}]}}
    ) as api:
        oracle = api.oracle()
        assert (oracle.card.embedding, oracle.card.classes, oracle.card.tells_probs) == (12, 0, False)
        answer = oracle.query(x)
        np.testing.assert_allclose(answer.embeddings, encoder.predict(x), atol=1e-5)
        assert answer.probs is None
        headers = {"Authorization": f"Bearer {api._keys['attacker']}"}
        metadata = api.client.get("/v2/models/victim", headers=headers).json()
        assert metadata["outputs"] == [{"name": "embedding", "datatype": "FP32", "shape": [-1, 12]}]
        inputs = [{"name": "input", "shape": [1, *SHAPE], "datatype": "FP32", "data": x[0].ravel().tolist()}]
        ask = {"inputs": inputs, "outputs": [{"name": "labels"}]}
        refused = api.client.post("/v2/models/victim/infer", json=ask, headers=headers)
        assert refused.status_code == 400 and "disclosed: embedding" in refused.text
        told = api.client.post("/v1/models/victim:predict", json={"instances": x.tolist()}, headers=headers).json()
        np.testing.assert_allclose([one["embedding"] for one in told["predictions"]], answer.embeddings, atol=1e-6)
        named = Endpoint(
            "http://local", model="victim", key=api._keys["attacker"], client=api.client,
            options=CardOptions(output=("embedding=embedding",)),
        )  # fmt: skip
        np.testing.assert_array_equal(named(x).embeddings, answer.embeddings)


@pytest.mark.parametrize("layer", [TopK(2), Rounding(1), LabelOnly(), Dawn(0.1)], ids=repr)
def test_layers_that_need_classes_are_refused(layer):
    with pytest.raises(BadInput, match="about classes, and the model answers embeddings of 12 numbers"):
        disclosed([layer], CARD)


def test_a_server_with_such_a_stack_does_not_start(encoder, state):
    with (
        pytest.raises(BadInput, match=r"victim victim.*: TopK changes answers"),
        serve(encoder, defenses=[TopK(2)], state=state),
    ):
        pass


@pytest.mark.parametrize(
    ("detector", "reaction", "fault"),
    [
        (Hoda(0.5, (0.5, 0.3, 0.2)), "log", "hoda: needs classes"),
        (Prada(0.9), "coarsen", "the reaction coarsen changes probabilities"),
        (Prada(0.9), "deceive", "the reaction deceive changes probabilities"),
    ],
)
def test_detectors_that_need_classes_are_refused(detector, reaction, fault):
    with pytest.raises(BadInput, match=fault):
        disclosed([Monitored(detector, type(detector).__name__.lower(), Consequence(reaction))], CARD)
    assert disclosed([Monitored(Prada(0.9), "prada", Consequence("refuse"))], CARD) == CARD


def test_an_encoder_s_defence_and_theft_refuse_a_classifier():
    card = Card("m", SHAPE, 2)
    with pytest.raises(BadInput, match="about embeddings, and the model answers classes"):
        disclosed([B4b()], card)
    oracle = Oracle(lambda x: Answer(np.zeros(len(x), int)), card)
    with pytest.raises(NotApplicable, match="answers classes"):
        EncoderTheft(rows=4).extract(oracle, Pool(rows(4)), np.random.default_rng(0))
    assert oracle.spent == 0


def test_other_attacks_refuse_an_encoder(encoder, state, tmp_path, monkeypatch):
    monkeypatch.setattr(Endpoint, "close", lambda endpoint: None)  # its client serves both attacks
    with serve(encoder, defenses=[B4b()], progress=False, state=state) as api:
        api.oracle()
        endpoint = Endpoint("http://local", model="victim", key=api._keys["attacker"], client=api.client)
        for attack, status in ((Knockoff(epochs=1), "not applicable"), (EncoderTheft(rows=20, epochs=1), "done")):
            out = tmp_path / status
            out.mkdir()
            result = conduct(
                "x", attack, [endpoint], {"pool": Pool(rows(20))}, budget=20, patience=1, seed=0, out=out
            )
            assert result["status"] == status, result
        assert result["rows"] == 20
        with np.load(tmp_path / "done" / "transfer.npz") as kept:
            assert kept["embeddings"].shape == (20, 12)
        assert folder.load(tmp_path / "done" / "surrogate").card().embedding == 12
