"""OpenAI's protocol: ``POST /v1/completions`` and ``POST /v1/chat/completions``, for language models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
from fastapi import APIRouter, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from defenses import Prompt
from defenses.store import VersionConflict
from server.deployment import service as services
from server.deployment.language import Admitted
from server.http import problems
from server.http.intake import Intake
from server.http.openapi import METERED
from server.protocols.openai_answers import Answering
from server.protocols.openai_document import ANSWERS, described
from server.protocols.openai_headers import limit_headers
from server.protocols.openai_messages import ChatRequest, CompletionRequest, Spoken, checked, decoded

TAG = "OpenAI protocol"

router = APIRouter(tags=[TAG], responses=METERED)


@router.post("/v1/completions", responses=ANSWERS, openapi_extra=described(CompletionRequest))
async def completions(request: Request) -> Response:
    """Continues a prompt, given as text or as tokens."""
    return await _answer(request, CompletionRequest)


@router.post("/v1/chat/completions", responses=ANSWERS, openapi_extra=described(ChatRequest))
async def chat_completions(request: Request) -> Response:
    """Continues a conversation: its messages, one after the other."""
    return await _answer(request, ChatRequest)


async def _answer(request: Request, kind: type[CompletionRequest | ChatRequest]) -> Response:
    service, record = services.of(request), request.scope["record"]
    intake: Intake = request.app.state.intake
    authorization = request.headers.get("Authorization")
    caller = await service.authenticate(authorization)  # before the body is read
    record.account = caller.account.name
    id_ = request.headers.get("Idempotency-Key")
    with intake.admit(caller.account.name) as held:
        body = await request.body()
        held.more(len(body))
        asked = held.read(decoded, body, kind)
        while True:
            spoken = service.languages.spoken_to(caller.account, asked.model)
            record.model = spoken.name
            checked_ = held.read(checked, asked, spoken, body, id_)
            at = service.clock()
            prompt = Prompt(caller.account.name, checked_.texts, checked_.sampling, at)
            try:
                completion = await service.languages.ask(
                    spoken, prompt, checked_.reserved, checked_.key, caller.position
                )
                break
            except VersionConflict:
                caller = await service.enter(authorization)
    answering = Answering(spoken, checked_, record.id, int(at))
    if checked_.stream:
        return _Stream(answering, completion, checked_, record.id)
    return await _whole(request, answering, completion)


async def _whole(request: Request, answering: Answering, completion: Admitted) -> Response:
    """Answers when all is known; a client that leaves before is told nothing."""
    left = asyncio.ensure_future(_gone(request.receive))
    told = None
    try:
        while not answering.ended:
            await _next(answering, completion, left)
        told = answering.told
    finally:
        left.cancel()
        await completion.settle(told)
    return Response(
        orjson.dumps(answering.whole()), headers=limit_headers(completion.limits), media_type="application/json"
    )


async def _next(answering: Answering, completion: Admitted, left: asyncio.Future[None]) -> int:
    """Waits for the next tokens, and returns the number of their text, unless the client leaves first."""
    coming = asyncio.ensure_future(completion.next())
    try:
        await asyncio.wait((coming, left), return_when=asyncio.FIRST_COMPLETED)
        if left.done():
            raise ClientDisconnect
        number, tokens = await coming
    finally:
        coming.cancel()
    if answering.read(number, tokens):
        completion.leave(number)
    return number


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class _Stream(StreamingResponse):
    """An answer of server-sent events; what was sent is billed, and the rest of the reservation is not."""

    def __init__(self, answering: Answering, completion: Admitted, spoken: Spoken, request: str) -> None:
        super().__init__(_nothing(), headers=limit_headers(completion.limits), media_type="text/event-stream")
        self._answering, self._completion, self._spoken, self._request = answering, completion, spoken, request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends each piece once it is known, until the client leaves."""
        answering, completion = self._answering, self._completion
        left = asyncio.ensure_future(_gone(receive))
        told: int | None = None

        async def event(content: Any) -> None:
            line = content if isinstance(content, bytes) else orjson.dumps(content)
            await send({"type": "http.response.body", "body": b"data: " + line + b"\n\n", "more_body": True})

        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            while not answering.ended:
                try:
                    number = await _next(answering, completion, left)
                except ClientDisconnect:
                    return
                except Exception as error:
                    await event(problems.openai(error, self._request))
                    break
                if (piece := answering.piece(number)) is not None:
                    told = answering.told  # what this event tells is billed even if its sending fails
                    await event(piece)
            else:
                if self._spoken.include_usage:
                    await event(answering.usage())
                await event(b"[DONE]")
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            left.cancel()
            await completion.settle(told)


async def _nothing() -> AsyncIterator[bytes]:
    for _ in ():
        yield b""
