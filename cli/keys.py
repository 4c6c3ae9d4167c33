"""API keys from a flag, the environment or a file."""

from __future__ import annotations

import re
from pathlib import Path

from wire.errors import BadInput
from wire.files import read_bytes


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
    if key and not re.fullmatch(r"[!-~]+", key):
        # The message must not repeat the key.
        raise BadInput("the key must be one line of printable ASCII characters without spaces")
    return key
