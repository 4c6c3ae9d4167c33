"""The server that everybody writes first: FastAPI, a ``def`` route, lists in and lists out."""

import sys
from pathlib import Path

import numpy as np
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.serving.session import load

folder, port = sys.argv[1:3]
predict = load(Path(folder))
app = FastAPI()


class Rows(BaseModel):
    """A request."""

    instances: list[list[list[list[float]]]]


@app.post("/predict")
def answer(rows: Rows) -> dict[str, list]:
    """Answers about rows."""
    probs = predict(np.asarray(rows.instances, np.float32))
    return {"labels": probs.argmax(1).tolist(), "probabilities": probs.tolist()}


uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning")
