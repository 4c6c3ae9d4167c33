"""Served language models: their deployments, and prompts that are admitted, continued and settled."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from defenses import Admission, Limit
from defenses.admission.price import Usage
from defenses.admission.settlement import settle, settle_once
from defenses.store import Charge, Store
from server.control.accounts import Account
from server.deployment.models import speaks
from server.deployment.stack import price_of
from server.deployment.turn import closing
from server.layer_tables import defense_of
from server.settings import Settings, Victim
from wire import BadInput, Card, Refused
from wire.ratelimit import Limits
from zoo.data import Pool, load, roles
from zoo.language.generation import Batch, Text, Told
from zoo.language.model import LanguageModel
from zoo.language.recipe import LANGUAGE

log = logging.getLogger(__name__)

Piece = tuple[int, list[Told]]
"""The index of a text among the prompt's, and its newly generated tokens."""


def load_languages(settings: Settings) -> dict[str, LanguageModel]:
    """Loads every language model, and trains those with recipes that are not in the state folder yet.

    Raises:
        BadInput: A folder is broken, or texts are not available.
    """
    loaded: dict[str, LanguageModel] = {}
    for victim in filter(speaks, settings.victims):
        try:
            loaded[victim.name] = LanguageModel.load(victim.folder or _trained(victim, settings))
        except BadInput as error:
            raise BadInput(f"victim {victim.name}: {error}") from None
    return loaded


def _trained(victim: Victim, settings: Settings) -> Path:
    assert victim.recipe is not None and victim.recipe.name is not None
    recipe, seed = LANGUAGE[victim.recipe.name], victim.recipe.seed
    dataset = load(recipe.data, settings.data, settings.state / "cache")
    files = roles.kept(dataset, seed, settings.state)
    return recipe.kept(Pool.load(files / "victim.npz"), settings.state / "cache", seed=seed or 0, label="victim")


class Writer:
    """Continues texts in a thread, all together."""

    def __init__(self, model: LanguageModel) -> None:
        self._model, self._batch = model, Batch(model)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tokens")
        self._queues: dict[Text, tuple[int, asyncio.Queue[Piece | Exception]]] = {}
        self._new: list[Text] = []
        self._task: asyncio.Task[None] | None = None

    def begin(self, texts: Sequence[Text]) -> asyncio.Queue[Piece | Exception]:
        """Begins to continue texts; returns where it tells them, or why it cannot."""
        told: asyncio.Queue[Piece | Exception] = asyncio.Queue()
        for number, text in enumerate(texts):
            self._queues[text] = number, told
            self._new.append(text)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._write())
        return told

    def leave(self, text: Text) -> None:
        """Ends a text before its next token."""
        text.left = True
        self._queues.pop(text, None)

    async def close(self) -> None:
        """Ends all texts."""
        for text in list(self._queues):
            self._end(closing(), text)
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        self._thread.shutdown()

    def _end(self, why: Exception, text: Text) -> None:
        _, queue = self._queues[text]
        self.leave(text)
        queue.put_nowait(why)

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while self._new or len(self._batch):
            for text in self._new:
                self._batch.join(text)
            self._new = []
            try:
                told = await loop.run_in_executor(self._thread, self._batch.step)
            except Exception as error:
                log.exception("a step of generation failed")
                self._batch = Batch(self._model)
                for text in list(self._queues):
                    self._end(error, text)
                continue
            for text, tokens in told:
                if (found := self._queues.get(text)) is not None:
                    number, queue = found
                    queue.put_nowait((number, tokens))
                    if not text.sampling.max_tokens or tokens[-1].finish:
                        del self._queues[text]


@dataclass(frozen=True)
class SpokenTo:
    """A language model as the accounts of one plan meet it.

    Attributes:
        name: Its name.
        model: The model.
        writer: Continues texts.
        admission: Their limits and prices.
        most: Most tokens of a request.
    """

    name: str
    model: LanguageModel
    writer: Writer
    admission: Admission
    most: int


class Prompt(NamedTuple):
    """What an account asks of a language model.

    Attributes:
        account: Name of the account.
        texts: The texts to continue; several may have the same prompt.
        reserved: The tokens of the prompts, and those that may be told.
        at: Seconds since the epoch.
        key: Identifies the request, so that it is billed once; None if it may be billed again.
    """

    account: str
    texts: Sequence[Text]
    reserved: Usage
    at: float
    key: str | None = None


class Completion:
    """The answer to a prompt that was admitted, token by token.

    Attributes:
        limits: The state in which its charge left the limits.
    """

    def __init__(self, languages: Languages, spoken: SpokenTo, prompt: Prompt, limits: Limits) -> None:
        self.limits = limits
        self._languages, self._spoken, self._prompt = languages, spoken, prompt
        self._told = spoken.writer.begin(prompt.texts)
        self._open = True

    async def next(self) -> Piece:
        """Returns the next tokens of a text, or raises why there are none."""
        piece = await self._told.get()
        if isinstance(piece, Exception):
            raise piece
        return piece

    def leave(self, number: int) -> None:
        """Ends a text early."""
        self._spoken.writer.leave(self._prompt.texts[number])

    async def settle(self, told: int | None) -> None:
        """Ends it, and leaves on the bill what was told: so many tokens, or nothing at all (None)."""
        if not self._open:
            return
        self._open = False
        for number in range(len(self._prompt.texts)):
            self.leave(number)
        usage = Usage() if told is None else Usage(self._prompt.reserved.prompt, told)
        await self._languages.settle(self._spoken, self._prompt, usage)


class Languages:
    """The language models of a running server.

    Attributes:
        names: Their names.
    """

    def __init__(
        self, settings: Settings, store: Store, models: Mapping[str, LanguageModel], clock: Callable[[], float]
    ) -> None:
        """Puts models behind their limits.

        Raises:
            BadInput: A model has other defences, or limits contradict each other.
        """
        self.names = list(models)
        self._store, self._clock, self._most = store, clock, settings.account_rows
        self._in_flight: Counter[str] = Counter()
        self._writers = {name: Writer(model) for name, model in models.items()}
        self._plans: dict[tuple[str, str], SpokenTo] = {}
        for victim in settings.victims:
            if victim.name not in models:
                continue
            own = [(table["type"], defense_of(table)) for table in victim.defenses]
            if others := [kind for kind, defense in own if not isinstance(defense, Limit)]:
                raise BadInput(f"victim {victim.name}: {others[0]} changes rows' answers; expected limits alone")
            for plan_name, plan in settings.plans.items():
                limits = [each for kind, each in own if isinstance(each, Limit) and kind not in plan.skip]
                around = [(table["type"], defense_of(table)) for table in plan.defenses]
                outer = [each for _, each in around if isinstance(each, Limit)]
                for kind in (kind for kind, each in around if not isinstance(each, Limit)):
                    log.warning("plan %s: its layer %s does not protect %s", plan_name, kind, victim.name)
                admission = Admission(victim.name, limits, price_of(plan), outer)
                card = admission.disclose(Card(victim.name, (), 2, max_rows=victim.max_rows))
                model, writer = models[victim.name], self._writers[victim.name]
                self._plans[victim.name, plan_name] = SpokenTo(
                    victim.name, model, writer, admission, card.max_rows
                )

    def spoken_to(self, account: Account, model: str) -> SpokenTo:
        """Returns a model as an account meets it, or raises :class:`~wire.Refused` (404, 403)."""
        if model not in self.names:
            there = f"there are {', '.join(self.names)}" if self.names else "there is none"
            raise Refused(f"no language model {model!r} here; {there}", status=404)
        if (model, account.plan) not in self._plans:
            raise Refused(f"the account's plan {account.plan!r} is not in the server's settings", status=403)
        return self._plans[model, account.plan]

    def of_plan(self, plan: str) -> list[SpokenTo]:
        """Returns what accounts of a plan meet."""
        return [spoken for (_, name), spoken in self._plans.items() if name == plan]

    async def ask(self, spoken: SpokenTo, prompt: Prompt, log_position: int) -> Completion:
        """Admits a prompt: all that may be told is charged until it is settled.

        Raises:
            Refused: A limit refuses, or too many of the account's tokens are in flight.
            VersionConflict: The control log has grown since the client was authenticated.
        """
        held, n = self._in_flight[prompt.account], sum(prompt.reserved)
        if held and held + n > self._most:
            raise Refused(
                f"the account has {held} tokens in flight; with {n} more, it would have more than {self._most}",
                status=429,
                retry_after=1,
            )
        self._in_flight[prompt.account] += n
        try:
            bill = spoken.admission.of_tokens(prompt.account, prompt.reserved, prompt.at, log_position)
            return Completion(self, spoken, prompt, bill.limits(await self._store.charge(bill.charge)))
        except BaseException:
            self._release(prompt)
            raise

    async def settle(self, spoken: SpokenTo, prompt: Prompt, told: Usage) -> None:
        """Leaves of a prompt's charge what was told, or is about to be."""

        def costs(usage: Usage, at: float) -> Charge:
            return spoken.admission.of_tokens(prompt.account, usage, at).charge

        self._release(prompt)
        if prompt.key is None or not any(told):
            await settle(self._store, costs, prompt.reserved, told, prompt.at)
        else:
            now = self._clock()
            await settle_once(self._store, costs, prompt.reserved, told, prompt.at, now, prompt.key)

    def _release(self, prompt: Prompt) -> None:
        self._in_flight[prompt.account] -= sum(prompt.reserved)
        if not self._in_flight[prompt.account]:
            del self._in_flight[prompt.account]

    async def close(self) -> None:
        """Refuses what is still to be told."""
        for writer in self._writers.values():
            await writer.close()
