"""What an attacker of a language model holds beside a key: files, which are read before the first request."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wire import BadInput
from wire.files import TEXT, read_bytes

if TYPE_CHECKING:
    from zoo.language.tokens import Tokens


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of the victim.

    Attributes:
        vocabulary: File of the victim's tokens, which are public: the ``tokenizer.json`` of its folder.
    """

    vocabulary: Path

    def read(self) -> tuple[Tokens]:
        """Returns the tokens, or raises :class:`~wire.BadInput`."""
        from zoo.language.tokens import read_tokens

        return (read_tokens(self.vocabulary),)


@dataclass(frozen=True)
class Suspected:
    """Secrets of one form that may have stood in the training texts.

    Attributes:
        form: The form of the texts, with ``{}`` in place of the secret.
        secrets: File of the suspected secrets, one a line: each of digits, as many as the form takes.
    """

    form: str
    secrets: Path

    def read(self) -> tuple[str, list[str]]:
        """Returns the form and the secrets, or raises :class:`~wire.BadInput`."""
        before, braces, after = self.form.partition("{}")
        if not braces or "{" in before + after or "}" in before + after:
            raise BadInput(f"--form {self.form!r}: expected one {{}}, in place of the secret")
        secrets = lines(self.secrets, "secret")
        if (wrong := next((one for one in secrets if not (one.isascii() and one.isdecimal())), None)) is not None:
            raise BadInput(f"{self.secrets}: {wrong!r} is not of digits; expected one secret a line")
        return self.form, secrets


@dataclass(frozen=True)
class Beginnings:
    """Beginnings of texts that may go on with a secret.

    Attributes:
        beginnings: File of the beginnings, one a line.
    """

    beginnings: Path

    def read(self) -> tuple[list[str]]:
        """Returns the beginnings, or raises :class:`~wire.BadInput`."""
        return (lines(self.beginnings, "beginning"),)


@dataclass(frozen=True)
class Sentences:
    """Texts of one language or style.

    Attributes:
        texts: File of the texts, one a line, in the language that the victim translates from.
    """

    texts: Path

    def read(self) -> tuple[list[str]]:
        """Returns the texts, or raises :class:`~wire.BadInput`."""
        return (lines(self.texts, "text"),)


def lines(path: Path, what: str) -> list[str]:
    """Returns the lines of a file of texts but empty ones, or raises :class:`~wire.BadInput`."""
    try:
        found = [line for line in read_bytes(path, TEXT).decode().splitlines() if line.strip()]
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}; expected a file with one {what} a line") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path}: not UTF-8; expected a file with one {what} a line") from None
    if not found:
        raise BadInput(f"{path}: empty; expected one {what} a line")
    return found
