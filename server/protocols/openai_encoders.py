"""OpenAI's embeddings of encoders of texts: behind the layers of models of rows, but billed by the token."""

from __future__ import annotations

import asyncio
from typing import Any

from defenses.admission.price import Usage
from server.deployment.service import Caller, Service
from server.deployment.stack import Deployed
from server.protocols.openai_messages import MOST_TEXTS
from wire import Array, Malformed, Refused
from wire.ratelimit import Limits
from zoo.data.pool import texts
from zoo.families.minilm import MOST_CHARACTERS, MOST_TOKENS


def encoder(service: Service, caller: Caller, model: str) -> Deployed | None:
    """Returns an encoder of texts, as the client's account meets it; None if there is none of this name."""
    if model not in service.models:
        return None
    deployed = service.deployed(caller.account, model)
    return None if deployed.tokens is None else deployed


def texts_of(given: Any, dimensions: int | None, deployed: Deployed) -> Array:
    """Returns the texts of a request, ``(n,)``, or raises :class:`~wire.Malformed`."""
    rows: list[Any] = [given] if isinstance(given, str) else given
    if not all(isinstance(text, str) for text in rows):
        raise Malformed("input: this model takes texts, not tokens")
    if not 0 < len(rows) <= MOST_TEXTS:
        raise Malformed(f"input has {len(rows)} texts; expected 1 to {MOST_TEXTS}")
    longest = max(map(len, rows))
    if longest > MOST_CHARACTERS or not all(rows):
        raise Malformed(f"input: each text must have from 1 to {MOST_CHARACTERS} characters, not {longest}")
    if dimensions not in (None, deployed.card.embedding):
        raise Malformed(f"dimensions = {dimensions} is not offered; expected {deployed.card.embedding}")
    return texts(rows)


async def embedded(
    service: Service, caller: Caller, deployed: Deployed, x: Array, key: str | None
) -> tuple[Array, int, Limits]:
    """Returns the embeddings of texts, their tokens, and the state in which they left the limits.

    Raises:
        Malformed: A text has too many tokens.
        Refused: They have too many together (413), or a layer refuses.
        VersionConflict: The control log has grown since the client was authenticated.
    """
    assert deployed.tokens is not None
    counts = await asyncio.to_thread(deployed.tokens, x)
    if (longest := int(counts.max())) > MOST_TOKENS:
        raise Malformed(f"input: each text must have from 1 to {MOST_TOKENS} tokens, not {longest}")
    tokens = int(counts.sum())
    if tokens > deployed.card.max_rows:
        raise Refused(f"{tokens} tokens in one request; at most {deployed.card.max_rows} are read", status=413)
    answer, limits = await service.ask(caller, deployed, x, key, usage=Usage(tokens))
    assert answer.embeddings is not None
    return answer.embeddings, tokens, limits
