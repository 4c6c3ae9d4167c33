"""Tests of published claims: ``python -m experiments reproduce A1 B1 --json FILE``; ``--help`` names all of them.

A claim is a frozen dataclass whose fields are the sizes of its protocol; it names its id, its statement and its
source (:class:`~experiments.claims.claim.Claim`). Its one verb, ``run(lab)``, plays the protocol between parties
that know one another by URL and key. It returns :class:`~experiments.claims.claim.Findings`: each number beside
the published one and a trivial baseline. :mod:`~experiments.lab` provides data, victims, servers and accounts. One
line in :data:`CLAIMS` adds a claim to the command.
"""

from typing import TYPE_CHECKING

from cli.registry import Registry

if TYPE_CHECKING:
    from experiments.claims.claim import Claim

CLAIMS: "Registry[Claim]" = Registry(
    {
        "A1": "experiments.claims.equations:A1",
        "A2": "experiments.claims.unknowns:A2",
        "A3": "experiments.claims.paths:A3",
        "TRA": "experiments.claims.forests:Forests",
        "A4": "experiments.claims.linear_labels:A4",
        "A4-kinds": "experiments.claims.same_kind:SameKind",
        "A4-images": "experiments.claims.thousand_rows:ThousandRows",
        "A5": "experiments.claims.unrelated_images:A5",
        "A6": "experiments.claims.jbda_controls:A6",
        "A8": "experiments.claims.adaptive_knockoff:A8",
        "A10": "experiments.claims.random_words:A10",
        "A11": "experiments.claims.translation:A11",
        "A12": "experiments.claims.output_layer:A12",
        "A12-defences": "experiments.claims.hidden_width:HiddenWidth",
        "A12-imitation": "experiments.claims.imitation:Imitation",
        "translation": "experiments.claims.translation:Translation",
        "A13": "experiments.claims.blueprints:A13",
        "A14": "experiments.claims.goals:A14",
        "Cryptanalysis": "experiments.claims.cryptanalysis:Cryptanalysis",
        "ActiveThief": "experiments.claims.active_learning:ActiveLearning",
        "DFME": "experiments.claims.without_data:Dfme",
        "DFMS-HL": "experiments.claims.labels_without_data:HardLabels",
        "B1": "experiments.claims.prada_detection:B1",
        "B2": "experiments.claims.prada_hoda:B2",
        "C1": "experiments.claims.backdoor:C1",
        "C4": "experiments.claims.dawn_removal:C4",
        "C5": "experiments.claims.radioactive:C5",
        "C6": "experiments.claims.dataset_inference:C6",
        "C7": "experiments.claims.dataset_inference:C7",
        "C8": "experiments.claims.false_claims:C8",
        "D": "experiments.claims.conflicts:Conflicts",
        "E1": "experiments.claims.training_size:E1",
        "E2": "experiments.claims.overfitting:E2",
        "E3": "experiments.claims.shadow_data:E3",
        "E5": "experiments.claims.mitigations:E5",
        "E7": "experiments.claims.references:E7",
        "E8": "experiments.claims.labels_alone:E8",
        "E9": "experiments.claims.labels_alone:E9",
        "E10": "experiments.claims.faces:E10",
        "radioactivity": "experiments.claims.radioactive_text:TextRadioactivity",
        "radioactivity-spoofed": "experiments.claims.spoofed_text:SpoofedText",
        "E11": "experiments.claims.secrets:E11",
    }
)
"""The claims, by the name that the command knows them by."""
