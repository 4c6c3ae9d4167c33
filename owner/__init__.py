"""The owner: tests whether a served model was made from theirs, knowing it only by URL and key."""

import wire.openmp  # noqa: F401
from owner.dataset_inference.dataset_inference import DatasetInference
from owner.evidence import Accusations, Evidence, accusations
from owner.ownership import Proof

#: Every proof, by the name of its command.
PROOFS = {"dataset-inference": DatasetInference}

__all__ = ["PROOFS", "Accusations", "DatasetInference", "Evidence", "Proof", "accusations"]
