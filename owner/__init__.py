"""Proofs of ownership: tests whether a served model was made from the owner's, through its URL and a key."""

from typing import TYPE_CHECKING, Any

import cli  # noqa: F401  # sets OpenMP's wait policy before anything loads torch
from cli.registry import Registry

if TYPE_CHECKING:
    from owner.ownership import Ownership

PROOFS: "Registry[Ownership[Any, Any]]" = Registry(
    {
        "backdoor": "owner.backdoor:BackdoorTest",
        "conferrable": "owner.conferrable:Conferrable",
        "dataset-inference": "owner.dataset_inference.dataset_inference:DatasetInference",
        "dawn": "owner.dawn:Dawn",
        "honeytrace": "owner.honeytrace:HoneytraceTest",
        "own-errors": "owner.own_errors:OwnErrors",
        "radioactive": "owner.radioactive:RadioactiveTest",
        "twin-test": "owner.twin_test:TwinTest",
        "selected-inference": "owner.selected_inference:SelectedInference",
    }
)
"""The proofs, by the name of their command."""

TEXT_PROOFS: "Registry[Any]" = Registry({"radioactive-text": "owner.radioactive_text:RadioactiveText"})
"""The proofs about language models."""


def __getattr__(name: str) -> Any:
    """Imports a proof by its class name, so that ``from owner import DatasetInference`` works."""
    try:
        return PROOFS.named(name)
    except AttributeError:
        return TEXT_PROOFS.named(name)
