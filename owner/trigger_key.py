"""The key of a backdoor watermark, and what one dispute reveals of it.

A trigger follows from its own secret and from the commitment to all secrets. So whoever changes one secret changes
all triggers: an owner who wants triggers on which models agree must try whole keys, not one trigger at a time.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import orjson
import pydantic

from defenses.training.backdoor import Backdoor
from owner.commitment import Entry, Opened, Receipt, commitment_to, opened
from wire import Array, BadInput, Labels
from wire.files import TEXT, read_bytes
from zoo.data.pool import Pool

KEY, NATURAL = "key.json", "natural.npz"


@dataclass(frozen=True)
class Rule:
    """The public part of a key.

    Attributes:
        mark: How the triggers follow from their seeds.
        shape: Shape of an image.
        classes: Number of classes.
        natural: SHA-256 of the natural images, in hexadecimal; None for abstract triggers.
    """

    mark: Backdoor
    shape: tuple[int, ...]
    classes: int
    natural: str | None

    @staticmethod
    def read(content: str) -> Rule:
        """Reads a rule, or raises :class:`~wire.BadInput`."""
        try:
            return pydantic.TypeAdapter(Rule).validate_json(content)
        except pydantic.ValidationError as error:
            raise BadInput(f"not the rule of a backdoor watermark: {error.errors()[0]['msg']}") from None

    def check_natural(self, natural: Pool | None) -> None:
        """Raises :class:`~wire.BadInput` unless these are the committed natural images."""
        if self.natural is not None and (natural is None or natural.fingerprint != self.natural):
            raise BadInput(f"the triggers are made of natural images with SHA-256 {self.natural}: give that file")


@dataclass(frozen=True, eq=False)
class TriggerKey:
    """The key: a secret, from which all triggers follow, and the commitment to each of them.

    Attributes:
        secret: 32 bytes in hexadecimal.
        rule: The public part.
        natural: The natural images, for patterns and pixels.
        receipt: The proof that the owner's log has the commitment; None without a log.
    """

    secret: str
    rule: Rule
    natural: Pool | None = None
    receipt: Receipt | None = None

    @staticmethod
    def new(mark: Backdoor, pool: Pool, natural: Pool | None, secret: str) -> TriggerKey:
        """Makes a key for models of a pool's rows (KeyGen)."""
        natural = None if mark.kind == "abstract" else natural
        classes = len(pool.class_names) or (0 if pool.y is None or not len(pool) else int(pool.y.max()) + 1)
        mark.check(pool.input_shape, classes, natural)
        rule = Rule(mark, tuple(pool.input_shape), classes, None if natural is None else natural.fingerprint)
        return TriggerKey(secret, rule, natural)

    @cached_property
    def triggers(self) -> tuple[Array, Labels]:
        """All triggers, ``(n, *shape)``, and their labels."""
        seeds = [seed_of(self.entry.root, part.decode()) for part in list(self._parts.values())[1:]]
        return self.rule.mark.all_triggers(seeds, self.rule.shape, self.rule.classes, self.natural)

    @cached_property
    def entry(self) -> Entry:
        """The entry of the owner's log."""
        return Entry(commitment_to(self._parts, self.secret), 1)

    def opened_rule(self) -> Opened:
        """Opens the rule."""
        return opened(self._parts, self.secret, "rule")

    def opened(self, number: int) -> Opened:
        """Opens one trigger by its number; the others stay secret."""
        return opened(self._parts, self.secret, f"trigger {number}")

    @property
    def _parts(self) -> dict[str, bytes]:
        root = bytes.fromhex(self.secret)
        secrets = {
            f"trigger {i}": hmac.digest(root, f"secret of trigger {i}".encode(), "sha256").hex().encode()
            for i in range(self.rule.mark.triggers)
        }
        return {"rule": orjson.dumps(asdict(self.rule)), **secrets}

    def save(self, folder: Path) -> None:
        """Writes the key to a folder, which is to be kept secret."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / KEY).write_bytes(orjson.dumps({"secret": self.secret, "rule": asdict(self.rule)}) + b"\n")
        if self.natural is not None:
            self.natural.save(folder / NATURAL)

    @staticmethod
    def load(folder: Path) -> TriggerKey:
        """Reads a key, or raises :class:`~wire.BadInput`."""
        try:
            found = orjson.loads(read_bytes(folder / KEY, TEXT))
            rule, secret = Rule.read(orjson.dumps(found["rule"]).decode()), bytes.fromhex(found["secret"]).hex()
        except OSError as error:
            raise BadInput(
                f"{folder / KEY}: {error.strerror}; `mlaas-range prove mark-backdoor` makes it"
            ) from None
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            raise BadInput(f"{folder / KEY}: not the key of a backdoor watermark") from None
        natural = None if rule.natural is None else Pool.load(folder / NATURAL)
        rule.check_natural(natural)
        return TriggerKey(secret, rule, natural)


def seed_of(root: str, secret: str) -> str:
    """Returns the seed of a trigger, of the commitment and of the trigger's own secret, all in hexadecimal.

    Raises:
        BadInput: The secret is not hexadecimal.
    """
    try:
        return hashlib.sha256(bytes.fromhex(root) + bytes.fromhex(secret)).hexdigest()
    except ValueError:
        raise BadInput(f"the secret of a trigger is {secret!r}; expected hexadecimal") from None


@dataclass(frozen=True)
class TriggersHeld:
    """The opened triggers, and the suspect's answers.

    Attributes:
        root: The commitment to the key, in hexadecimal.
        rule: The public part of the key, opened.
        openings: The opened triggers, in the order of the queries.
        labels: The suspect's labels.
        matches: Number of triggers to which the suspect gave their labels.
        p0: Probability that a model that does not know the key gives a trigger's label, at most.
        bits: log2 of the winnings after each trigger: a model that does not know the key exceeds b with a
            probability of at most 2^-b.
        starts: Number of triggers at which the owner could have begun, which multiplies the p-value.
        commitments: Number of the owner's commitments, likewise.
        independent: Number of the same triggers to which each independent model gave their labels.
        p_independent: Probability that a model that knows the labels as often as the independent ones may, at
            99 % confidence, gives as many; None without such models.
        stopped: Why the suspect did not answer all queries; None if it did.
    """

    root: str
    rule: Opened
    openings: tuple[Opened, ...]
    labels: tuple[int, ...]
    matches: int
    p0: float
    bits: tuple[float, ...]
    starts: int
    commitments: int
    independent: dict[str, int]
    p_independent: float | None
    stopped: str | None = None

    def describe(self, verdict: str) -> list[str]:
        """Returns the measurements and the next step, as lines."""
        count, left = len(self.labels), self.starts - (self.openings[-1].index if self.openings else 0)
        lines = [
            f"{self.matches} of {count} opened triggers have their secret label; by chance {self.p0:.3f} of them",
            f"p is multiplied by {self.starts} possible first triggers and {self.commitments} commitments",
            *(f"independent model {name}: {held} of {count}" for name, held in self.independent.items()),
        ]
        if self.p_independent is None:
            lines.append("no independent model was queried")
        else:
            lines.append(f"as many with a model like the independent ones: p = {self.p_independent:.3g}")
        if self.stopped is not None:
            lines.append(f"the suspect stopped early: {self.stopped}")
        if verdict == "accused":
            return [
                *lines,
                f"next: give the evidence to a judge (judge-backdoor); {left} triggers are still secret",
            ]
        return [*lines, "next: nothing, or a further test with --skip of triggers that are still secret"]
