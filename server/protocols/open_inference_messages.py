"""The messages of the Open Inference Protocol v2, as its document describes them; rows are read without these."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from wire.tensors import DATATYPES

Datatype = Annotated[str, Field(json_schema_extra={"enum": list(DATATYPES)})]
Parameters = dict[str, Any]


class ServerMetadata(BaseModel):
    """The server's name, version and extensions."""

    name: str = Field(examples=["mlaas-range"])
    version: str = Field(examples=["0.1.0"])
    extensions: list[str] = Field(examples=[["binary_tensor_data"]])


class ServerLive(BaseModel):
    """Whether the server is alive."""

    live: bool = Field(examples=[True])


class ServerReady(BaseModel):
    """Whether the server is ready."""

    ready: bool = Field(examples=[True])


class ModelReady(BaseModel):
    """Whether a model is ready."""

    name: str = Field(examples=["victim"])
    ready: bool = Field(examples=[True])


class TensorMetadata(BaseModel):
    """An input or output of a model; -1 stands for the number of rows."""

    name: str = Field(examples=["input"])
    datatype: Datatype = Field(examples=["FP32"])
    shape: list[int] = Field(examples=[[-1, 1, 28, 28]])


class ModelMetadata(BaseModel):
    """A model, as the account sees it."""

    name: str = Field(examples=["victim"])
    versions: list[str] = Field(examples=[["1"]])
    platform: str = Field(examples=["onnxruntime_float32"])
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    parameters: Parameters = Field(
        description="The classes' names, the range of a feature, the most rows in one request, and how "
        "probabilities are blurred: `top_k`, `digits`, `temperature`, `noise` (a standard deviation).",
        examples=[
            {"classes": ["T-shirt", "Trouser"], "low": 0.0, "high": 1.0, "max_rows": 1024, "missing": False}
        ],
    )


class RequestInput(BaseModel):
    """Rows, as ``data`` or, with the parameter ``binary_data_size``, as raw bytes behind the JSON."""

    name: str = Field(examples=["input"])
    shape: list[Annotated[int, Field(ge=0)]] = Field(examples=[[1, 4]])
    datatype: Datatype = Field(examples=["FP32"])
    parameters: Parameters | None = Field(None, examples=[{}])
    data: list[Any] | None = Field(
        None,
        description="Values in row-major order, flat or nested; `null` is a missing one.",
        examples=[[0.1, 0.2, 0.3, 0.4]],
    )


class RequestOutput(BaseModel):
    """An output to return; with the parameter ``binary_data`` as raw bytes behind the JSON."""

    name: Literal["labels", "probabilities", "leaves"] = Field(examples=["labels"])
    parameters: Parameters | None = Field(None, examples=[{"binary_data": False}])


_ROW: dict[str, Any] = {"name": "input", "shape": [1, 4], "datatype": "FP32", "data": [0.1, 0.2, 0.3, 0.4]}


class InferRequest(BaseModel):
    """Rows about which a model is asked."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"id": "42", "inputs": [_ROW], "outputs": [{"name": "labels"}]}]}
    )

    id: str | None = Field(
        None, max_length=256, description="Names the request, so that a retry within ten minutes is billed once."
    )
    parameters: Parameters | None = Field(
        None, description="`binary_data_output` asks for raw bytes of all outputs."
    )
    inputs: list[RequestInput] = Field(min_length=1)
    outputs: list[RequestOutput] | None = Field(None, description="By default, all that the model discloses.")


class ResponseOutput(BaseModel):
    """An output about all rows."""

    name: str = Field(examples=["labels"])
    shape: list[int] = Field(examples=[[1]])
    datatype: Datatype = Field(examples=["INT64"])
    parameters: Parameters | None = Field(None, description="`binary_data_size` of an output in raw bytes.")
    data: list[float | int | None] | None = Field(None, description="`null` is withheld.", examples=[[2]])


class InferResponse(BaseModel):
    """The answer about all rows."""

    model_name: str = Field(examples=["victim"])
    model_version: str = Field(examples=["1"])
    id: str | None = Field(None, description="The request's, if it had one.", examples=["42"])
    outputs: list[ResponseOutput]
