"""Detectors at a language model: they watch its prompts, as they watch the texts that a classifier is asked about.

Each prompt of a request is one row, whatever the number of its completions. It is logged before anything is told;
what is told is not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from defenses.defense import Stage
from defenses.generation import Completion, Generate, GenerationLayer, GenerationSite, Offer, Prompt
from defenses.monitoring.monitor import Monitor, Monitored
from defenses.reactions.alarm import Alarmed, expect_answerable
from wire import Answer, BadInput, Query

REACTIONS = ("log", "refuse", "slow")


@dataclass(frozen=True)
class MonitoredPrompts:
    """The defence that monitors the prompts of accounts with a detector.

    Attributes:
        monitored: The detector, with its reaction.
    """

    monitored: Monitored

    stage: ClassVar[Stage] = Stage.MONITOR

    def __post_init__(self) -> None:
        kind, reaction = self.monitored.kind, self.monitored.consequence.reaction
        if not getattr(self.monitored.detector, "any_rows", False):
            raise BadInput(f"{kind} watches rows of numbers; a language model's prompts are texts")
        if reaction not in REACTIONS:
            raise BadInput(f"{kind}: the reaction {reaction} changes labels; expected {', '.join(REACTIONS)}")

    def bind(self, site: GenerationSite) -> GenerationLayer:
        """Returns the layer that watches."""
        if site.prompts is None or site.read is None:
            raise BadInput(f"{self.monitored.kind}: prompts cannot be watched here")
        monitored, read = self.monitored, site.read
        monitor = Monitor(monitored.detector, monitored.kind, monitored.consequence, site.prompts)
        alarms, model = site.prompts.alarms, site.model

        async def layer(prompt: Prompt, handle: Generate) -> Completion:
            asked = dict.fromkeys(read(ids) for ids in prompt.texts)
            x = np.empty(len(asked), object)
            x[:] = list(asked)
            known = alarms.standing(prompt.account, model)
            try:
                await monitor(Query(prompt.account, x, prompt.at), _unlabelled)
            except Alarmed as alarmed:  # admission knows of those that stood before
                expect_answerable(
                    alarm for alarm in alarmed.places if alarm not in known or alarm.reaction == "refuse"
                )
            return await handle(prompt)

        return layer

    def disclose(self, offer: Offer) -> Offer:
        """Returns what is offered; that prompts are watched is not disclosed."""
        return offer


async def _unlabelled(query: Query) -> Answer:
    """Stands for a victim without classes."""
    return Answer(np.zeros(len(query.x), np.int64), None)
