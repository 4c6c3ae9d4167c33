"""States as bytes: a head in JSON, and arrays; equal ones give equal bytes."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from wire import Array


def written(head: Mapping[str, Any], arrays: Mapping[str, Array]) -> bytes:
    """Returns the bytes of a state; the head says its ``schema``."""
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays, head=np.frombuffer(json.dumps(head).encode(), np.uint8))
    return file.getvalue()


@contextmanager
def read(saved: bytes, schema: int, what: str) -> Iterator[tuple[dict[str, Any], Mapping[str, Array]]]:
    """Yields head and arrays of a state, which is made of them while they are open.

    Args:
        saved: What :func:`written` returned.
        schema: The one that is read.
        what: What to say if it is broken.

    Raises:
        ValueError: It is broken, or of another schema, or no state can be made of it.
    """
    try:
        with np.load(io.BytesIO(saved), allow_pickle=False) as arrays:
            head = json.loads(arrays["head"].tobytes())
            if head["schema"] != schema:
                raise ValueError(f"schema {head['schema']}, expected {schema}")
            yield head, arrays
    except (zipfile.BadZipFile, KeyError, RuntimeError, TypeError, ValueError, EOFError, OSError) as error:
        raise ValueError(f"{what}: {error}") from None
