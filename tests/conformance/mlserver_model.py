"""Trains a small scikit-learn model and lays it out for MLServer; run by its own Python, in an empty folder.

python mlserver_model.py HTTP_PORT GRPC_PORT METRICS_PORT
"""

import json
import sys
from pathlib import Path

import joblib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

MEMBERS = 600

digits = load_digits()
x, y = (digits.data / 16).astype(np.float32), digits.target
model = LogisticRegression(max_iter=2000).fit(x[:MEMBERS], y[:MEMBERS])
np.savez("expected.npz", x=x, y=y, members=MEMBERS, probs=model.predict_proba(x))

SETTINGS = {
    "digits": {
        "inputs": [{"name": "predict", "datatype": "FP32", "shape": [-1, 64]}],
        "outputs": [
            {"name": "predict", "datatype": "INT64", "shape": [-1]},
            {"name": "predict_proba", "datatype": "FP64", "shape": [-1, 10]},
        ],
    },
    "silent": {},  # says nothing of its inputs and outputs
}
for name, described in SETTINGS.items():
    folder = Path(name)
    folder.mkdir()
    joblib.dump(model, folder / "model.joblib")
    runtime = {"name": name, "implementation": "mlserver_sklearn.SKLearnModel"}
    settings = {**runtime, **described, "parameters": {"uri": "./model.joblib", "version": "v1"}}
    (folder / "model-settings.json").write_text(json.dumps(settings))
ports = dict(zip(("http_port", "grpc_port", "metrics_port"), map(int, sys.argv[1:]), strict=True))
Path("settings.json").write_text(json.dumps({"host": "127.0.0.1", "parallel_workers": 0, **ports}))
