"""Every proof keeps the one protocol, and the command can load what it needs."""

import dataclasses
import inspect
import typing

import pytest

from owner import PROOFS
from owner.ownership import MostRows, Ownership
from owner.runner import LOADERS

VERBS = [name for name, verb in vars(Ownership).items() if inspect.isfunction(verb) and not name.startswith("_")]


@pytest.mark.parametrize("name", PROOFS)
def test_a_proof_is_hyper_parameters_and_the_protocols_verbs(name):
    proof = PROOFS[name]
    assert proof.__dataclass_params__.frozen
    assert all(isinstance(field.default, int | float | str) for field in dataclasses.fields(proof))
    for verb in VERBS:
        assert [*inspect.signature(getattr(proof, verb)).parameters] == [
            *inspect.signature(getattr(Ownership, verb)).parameters
        ], verb
    assert isinstance(proof().most_rows(), MostRows)
    assert VERBS == ["most_rows", "check", "prepare", "accuse"]


@pytest.mark.parametrize("name", PROOFS)
def test_the_command_loads_what_a_proof_needs(name):
    holdings = typing.get_type_hints(PROOFS[name].prepare)["holdings"]
    fields = {field.name for field in dataclasses.fields(holdings)}
    assert fields and fields <= LOADERS.keys()
    assert typing.get_type_hints(PROOFS[name].check)["holdings"] is holdings
