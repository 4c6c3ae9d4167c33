"""Models beside a victim, which detectors and watermarks evaluate on its rows."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from pathlib import Path

from defenses.companions import Forward
from server.deployment.batcher import Batcher
from server.deployment.engine import engine_of
from server.settings import Victim
from wire import Array, BadInput, Card
from zoo import folder
from zoo.model import Model
from zoo.penultimate import activation_bits, penultimate


@dataclass(frozen=True)
class Models:
    """The models beside one victim; a :class:`~defenses.companions.Companions`.

    Each has an engine of its own, with the same gate as the victim's, and a batcher. The module of a
    :class:`~zoo.network.Network` maps rows to ``(n, k, ...)``, and an engine takes the softmax over the k.

    Attributes:
        model: The victim's own.
        victim: Its settings.
        card: Its card.
        cache: Folder of exported models.
        threads: Threads of one pass on a CPU.
        executor: Runs passes that take too long for the event loop.
    """

    model: Model
    victim: Victim
    card: Card
    cache: Path
    threads: int
    executor: Executor
    _made: dict[str, Forward] = field(default_factory=dict, init=False, repr=False)
    _making: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    async def checkpoints(self) -> Forward:
        """Returns the victim's class probabilities at its checkpoints but the last, ``(n, k, c)``.

        Raises:
            BadInput: It was saved without any.
        """
        return await self._passes("its checkpoints", lambda: self.model.network().earlier())

    async def load(self, folder: Path) -> Forward:
        """Returns a saved model's class probabilities, ``(n, k)``.

        Raises:
            BadInput: The folder is broken, or its model takes other rows than the victim.
        """
        return await self._passes(str(folder), lambda: self._loaded(folder))

    async def activations(self, rows: Array) -> Array:
        """Returns the input of the victim's last layer, ``(n, units)`` float32; for use at start only.

        Raises:
            BadInput: The victim has no such layer, or takes other rows.
        """
        layer = penultimate(self.model.network())
        if rows.shape[1:] != layer.input_shape:
            raise BadInput(f"the victim takes rows of shape {layer.input_shape}, not {rows.shape[1:]}")
        return await asyncio.to_thread(layer.logits, rows)

    async def activation_bits(self, limits: Array) -> Forward:
        """Returns whether each of these activations is above its limit, ``(n, 2, units)``.

        Raises:
            BadInput: The victim has no such layer.
        """
        name = f"its activation bits {hashlib.sha256(limits.tobytes()).hexdigest()[:8]}"
        # Whichever engine answers, and at whatever precision: decisions must not change.
        victim = self.victim.model_copy(update={"engine": "auto", "precision": "float32"})
        return await self._passes(name, lambda: activation_bits(self.model.network(), limits), victim)

    async def _passes(self, name: str, make: Callable[[], Model], victim: Victim | None = None) -> Forward:
        if name not in self._made:
            await asyncio.to_thread(self._make, name, make, victim or self.victim)
        return self._made[name]

    def _make(self, name: str, make: Callable[[], Model], victim: Victim) -> None:
        with self._making:
            if name not in self._made:
                card = replace(self.card, model=f"{self.card.model}, {name}")
                engine = engine_of(make(), victim, card, self.cache, self.threads)
                self._made[name] = Batcher(engine, self.executor)

    def _loaded(self, path: Path) -> Model:
        model = folder.load(path, self._device())
        takes = model.card()
        if (takes.dtype == "BYTES") != (self.card.dtype == "BYTES"):
            kinds = ("texts", "numbers") if takes.dtype == "BYTES" else ("numbers", "texts")
            raise BadInput(f"{path}: it takes {kinds[0]}, and the victim {kinds[1]}")
        if takes.input_shape != self.card.input_shape:
            raise BadInput(f"{path}: it takes rows {takes.input_shape}, and the victim {self.card.input_shape}")
        if takes.features != self.card.features or (self.card.missing and not takes.missing):
            raise BadInput(f"{path}: it takes other features than the victim")
        return model

    def _device(self) -> str:
        try:
            return str(self.model.network().device)
        except BadInput:  # a forest, or a model of texts
            return "cpu"
