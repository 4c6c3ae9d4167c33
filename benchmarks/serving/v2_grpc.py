"""The Open Inference Protocol v2 over gRPC, with raw tensors."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2

from benchmarks.serving.connections import Client
from wire import Array
from wire.tensors import DATATYPES, Tensor

MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"


def pack(model: str, x: Array) -> bytes:
    """Returns the message that asks a model about rows."""
    given = Tensor("input", x)
    entry = service_pb2.ModelInferRequest.InferInputTensor(
        name=given.name, datatype=given.datatype, shape=given.array.shape
    )
    message = service_pb2.ModelInferRequest(model_name=model, inputs=[entry], raw_input_contents=[x.tobytes()])
    return bytes(message.SerializeToString())


def unpack(message: bytes) -> dict[str, Array]:
    """Returns the tensors of an answer by name."""
    answer = service_pb2.ModelInferResponse.FromString(message)
    return {
        output.name: np.frombuffer(raw, DATATYPES[output.datatype]).reshape(tuple(output.shape))
        for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=True)
    }


def ask(port: int, message: bytes) -> bytes:
    """Sends a message once.

    Raises:
        grpc.RpcError: It was refused, or nobody answered within a minute.
    """
    with grpc.insecure_channel(f"127.0.0.1:{port}") as opened:
        return bytes(opened.unary_unary(MODEL_INFER)(message, timeout=60))


class GrpcConnection:
    """Sends requests in turn to the protocol's ``ModelInfer``, over a channel of its own."""

    def __init__(self, client: Client, requests: Sequence[bytes]) -> None:
        """Takes the client and the bytes of the messages."""
        self._client, self._requests, self._at = client, requests, -1
        self._call: Any = None
        self._task: asyncio.Future[None] | None = None

    async def open(self, host: str, port: int) -> None:
        """Connects."""
        own = [("grpc.use_local_subchannel_pool", 1)]  # else channels to one server share a connection
        channel = grpc.aio.insecure_channel(f"{host}:{port}", options=own)
        try:
            await asyncio.wait_for(channel.channel_ready(), 10)
        except TimeoutError:
            raise OSError("no gRPC channel in 10 s") from None
        self._call = channel.unary_unary(MODEL_INFER)

    def send(self) -> None:
        """Sends the next request."""
        self._at = (self._at + 1) % len(self._requests)
        self._task = asyncio.ensure_future(self._ask(self._requests[self._at]))

    def close(self) -> None:
        """Closes the connection."""
        if self._task is not None:
            self._task.cancel()

    async def _ask(self, request: bytes) -> None:
        try:
            await self._call(request)
        except grpc.aio.AioRpcError as error:
            self._client.refused(self, error.code().name, error.details() or "")
        else:
            self._client.answered(self)
