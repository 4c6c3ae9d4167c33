"""Served language models: prompts that are admitted, continued and settled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from defenses import Completion, Prompt
from defenses.admission.price import Usage
from defenses.admission.settlement import settle, settle_once
from defenses.generation import Piece
from defenses.store import Charge, Store
from server.control.accounts import Account
from server.control.log import ControlLog
from server.deployment.language_stack import SpokenTo, deploy_language
from server.deployment.models import speaks
from server.deployment.prompts import prompts_of
from server.deployment.stack import Tables
from server.deployment.withdrawn import log_withdrawn, withdrawn
from server.deployment.writer import Writer
from server.settings import Settings, Victim
from wire import Array, BadInput, Refused
from wire.ratelimit import Limits
from zoo.data import Pool, load, roles
from zoo.language.model import LanguageModel
from zoo.language.recipe import LANGUAGE


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


class Admitted:
    """A prompt that was admitted, and its completion, token by token.

    Attributes:
        limits: The state in which its charge left the limits.
    """

    def __init__(
        self,
        languages: Languages,
        spoken: SpokenTo,
        prompt: Prompt,
        reserved: Usage,
        key: str | None,
        limits: Limits,
    ) -> None:
        self.limits = limits
        self._languages, self._spoken, self._prompt = languages, spoken, prompt
        self._reserved, self._key = reserved, key
        self._completion: Completion | None = None
        self._open = True

    async def begin(self) -> None:
        """Begins the completion; if that fails, raises the reason and refunds the charge."""
        try:
            self._completion = await self._spoken.generate(self._prompt)
        except BaseException:
            await self.settle(None)
            raise

    async def next(self) -> Piece:
        """Returns the next tokens of a text, or raises the error that ended it."""
        assert self._completion is not None
        return await self._completion.next()

    def leave(self, number: int) -> None:
        """Ends a text early."""
        if self._completion is not None:
            self._completion.leave(number)

    async def settle(self, told: int | None) -> None:
        """Ends the request, and bills as many generated tokens as were sent; None bills nothing at all."""
        if not self._open:
            return
        self._open = False
        for number in range(len(self._prompt.texts)):
            self.leave(number)
        usage = Usage() if told is None else Usage(self._reserved.prompt, told)
        account, at = self._prompt.account, self._prompt.at
        await self._languages.settle(self._spoken, account, at, self._reserved, usage, self._key)


class Languages:
    """The language models of a running server.

    Attributes:
        names: Their names.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        models: Mapping[str, LanguageModel],
        clock: Callable[[], float],
        secret: bytes,
        control: ControlLog,
    ) -> None:
        """Puts models behind their configured defences.

        Args:
            settings: The server's settings.
            store: Where limits and bills are kept.
            models: The models, by name.
            clock: Returns the time, in seconds since the epoch.
            secret: The server's secret.
            control: The control log: alarms, and the stacks that an administrator put in place.

        Raises:
            BadInput: A stack contradicts itself, or has layers about rows.
        """
        self.names = list(models)
        self._store, self._clock, self._most = store, clock, settings.account_rows
        self._in_flight: Counter[str] = Counter()
        self._writers = {name: Writer(model) for name, model in models.items()}
        self._models, self._secret, self._of_plans, self._control = models, secret, settings.plans, control
        self._victims = {victim.name: victim for victim in settings.victims if victim.name in models}
        self._stacks: dict[str, Tables] = {name: victim.defenses for name, victim in self._victims.items()}
        self._spoken: dict[str, dict[str, SpokenTo] | None] = {
            name: self.bound(name, stack) for name, stack in self._stacks.items()
        }

    @property
    def withdrawn(self) -> list[str]:
        """The models whose replaced stack cannot be bound."""
        return [name for name, spoken in self._spoken.items() if spoken is None]

    def stack(self, model: str) -> Tables:
        """Returns the defence stack of a model that is in force."""
        replaced = self._control.stacks.get(model)
        return self._victims[model].defenses if replaced is None else replaced

    def bound(self, model: str, stack: Tables) -> dict[str, SpokenTo]:
        """Returns what the accounts of each plan would meet behind a stack.

        Raises:
            BadInput: The stack contradicts itself, or has layers about rows.
        """
        victim = self._victims[model].model_copy(update={"defenses": list(stack)})
        served = self._models[model]
        prompts = prompts_of(model, served, served.fingerprint, self._store, self._control)
        return deploy_language(victim, served, self._writers[model], self._of_plans, self._secret, prompts)

    def redeploy(self) -> None:
        """Binds the stacks that the control log has replaced; what is being told goes on behind the former one."""
        for model in self.names:
            if (stack := self.stack(model)) is self._stacks[model]:
                continue
            try:
                self._spoken[model] = self.bound(model, stack)
            except BadInput as error:  # the server that accepted it had other settings
                log_withdrawn(model, error)
                self._spoken[model] = None
            self._stacks[model] = stack

    def spoken_to(self, account: Account, model: str) -> SpokenTo:
        """Returns a model as an account meets it, or raises :class:`~wire.Refused` (404, 403, 503)."""
        if model not in self.names:
            there = f"there are {', '.join(self.names)}" if self.names else "there is none"
            raise Refused(f"no language model {model!r} here; {there}", status=404)
        if (spoken := self._spoken[model]) is None:
            raise Refused(withdrawn([model]), status=503)
        if account.plan not in spoken:
            raise Refused(f"the account's plan {account.plan!r} is not in the server's settings", status=403)
        return spoken[account.plan]

    def of_plan(self, plan: str) -> list[SpokenTo]:
        """Returns what accounts of a plan meet."""
        return [spoken[plan] for spoken in self._spoken.values() if spoken is not None and plan in spoken]

    async def ask(
        self, spoken: SpokenTo, prompt: Prompt, reserved: Usage, key: str | None, log_position: int
    ) -> Admitted:
        """Admits a prompt: the maximum that it may cost is charged until it is settled.

        Args:
            spoken: The model.
            prompt: The prompt.
            reserved: The tokens of its texts, and the most that may be generated.
            key: Identifies the request, so that it is billed once; None if it may be billed again.
            log_position: Position of the control log at which the client was authenticated.

        Raises:
            Refused: A limit or a layer refuses, or too many of the account's tokens are in flight.
            VersionConflict: The control log has grown since.
        """
        limits = await self._charge(spoken, prompt.account, reserved, prompt.at, log_position)
        admitted = Admitted(self, spoken, prompt, reserved, key, limits)
        await admitted.begin()
        return admitted

    async def embed(
        self,
        spoken: SpokenTo,
        account: str,
        texts: Sequence[Sequence[int]],
        at: float,
        key: str | None,
        log_position: int,
    ) -> tuple[Array, Limits]:
        """Returns the embeddings of texts, ``(n, width)``, and the state in which they left the limits.

        Raises:
            Refused: As for :meth:`ask`.
            VersionConflict: Likewise.
        """
        reserved, told = Usage(sum(map(len, texts))), Usage()
        limits = await self._charge(spoken, account, reserved, at, log_position)
        try:
            found = await self._writers[spoken.name].embed(texts)
            told = reserved
        finally:
            await self.settle(spoken, account, at, reserved, told, key)
        return found, limits

    async def _charge(
        self, spoken: SpokenTo, account: str, reserved: Usage, at: float, log_position: int
    ) -> Limits:
        """Charges the maximum cost, and counts it as in flight until it is settled."""
        held, n = self._in_flight[account], sum(reserved)
        if held and held + n > self._most:
            raise Refused(
                f"the account has {held} tokens in flight; with {n} more, it would have more than {self._most}",
                status=429,
                retry_after=1,
            )
        self._in_flight[account] += n
        try:
            alarms = self._control.alarms.standing(account, spoken.name)
            bill = spoken.admission.of_tokens(account, reserved, at, log_position, alarms)
            return bill.limits(await self._store.charge(bill.charge))
        except BaseException:
            self._release(account, n)
            raise

    async def settle(
        self, spoken: SpokenTo, account: str, at: float, reserved: Usage, told: Usage, key: str | None
    ) -> None:
        """Replaces a charge by the cost of the tokens that were sent, or are about to be."""

        def costs(usage: Usage, when: float) -> Charge:
            return spoken.admission.of_tokens(account, usage, when).charge

        self._release(account, sum(reserved))
        if key is None or not any(told):
            await settle(self._store, costs, reserved, told, at)
        else:
            await settle_once(self._store, costs, reserved, told, at, self._clock(), key)

    def _release(self, account: str, tokens: int) -> None:
        self._in_flight[account] -= tokens
        if not self._in_flight[account]:
            del self._in_flight[account]

    async def close(self) -> None:
        """Ends all completions that are in progress."""
        for writer in self._writers.values():
            await writer.close()
