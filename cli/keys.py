"""API keys from a flag, the environment or a file."""

from __future__ import annotations

import re
from pathlib import Path

from wire.errors import BadInput
from wire.files import read_bytes

MOST_BYTES = 16 * 2**20  # of a file of keys
_KEY = re.compile(r"[!-~]+")


def read_key(key: str | None, file: Path | None) -> str | None:
    """Returns the key, or the content of the key file if no key is given.

    Raises:
        BadInput: The file cannot be read, or the key is not one line of printable ASCII without spaces.
    """
    if not key and file is not None:
        try:
            key = read_bytes(file, 4096).decode().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"key file {file}: {getattr(error, 'strerror', None) or 'not a text file'}") from None
    if key and not _KEY.fullmatch(key):
        # The message must not repeat the key.
        raise BadInput("the key must be one line of printable ASCII characters without spaces")
    return key


def read_keys(file: Path) -> list[str]:
    """Returns the keys of a file, one a line; empty lines are skipped.

    Raises:
        BadInput: The file cannot be read, holds no key, holds one twice, or a line is not a key.
    """
    try:
        keys = read_bytes(file, MOST_BYTES).decode().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"--keys {file}: {getattr(error, 'strerror', None) or 'not a text file'}") from None
    keys = [key.strip() for key in keys if key.strip()]
    wrong = next((number for number, key in enumerate(keys, 1) if not _KEY.fullmatch(key)), None)
    if wrong is not None:
        raise BadInput(
            f"--keys {file}: key {wrong} is not printable ASCII without spaces; expected one key a line"
        )
    if not keys or len(set(keys)) < len(keys):
        raise BadInput(f"--keys {file}: {'a key occurs twice' if keys else 'no keys'}; expected one key a line")
    return keys
