"""Asks a server through KServe's own client, in KServe's own environment, and prints what it understood.

python kserve_client.py URL KEY ROWS.npy
"""

import asyncio
import json
import sys

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput


async def main(url, key, x):
    headers = {"Authorization": f"Bearer {key}"}
    found = {}
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        found["live"] = await client.is_server_live(url)
        found["ready"] = await client.is_server_ready(url)
        found["model ready"] = await client.is_model_ready(url, "open", headers=dict(headers))
        found["no model"] = await client.is_model_ready(url, "other", headers=dict(headers))
        for binary in (False, True):
            given = InferInput(name="input", datatype="FP32", shape=list(x.shape))
            given.set_data_from_numpy(x, binary_data=binary)
            outputs = [
                RequestedOutput(name, parameters={"binary_data": binary}) for name in ("probabilities", "labels")
            ]
            asked = InferRequest("open", [given], request_id="2ja0", request_outputs=outputs)
            answer = await client.infer(url, asked, model_name="open", headers=dict(headers))
            probs, labels = (output.as_numpy() for output in answer.outputs)
            found[f"binary {binary}"] = {
                "id": answer.id,
                "model": answer.model_name,
                "labels": labels.tolist(),
                "probs": probs.tolist(),
            }
        try:
            await client.infer(url, InferRequest("other", [given]), model_name="other", headers=dict(headers))
        except Exception as error:
            found["refusal"] = [type(error).__name__, str(error)]
    async with InferenceRESTClient(RESTConfig(protocol="v1")) as client:
        found["v1 live"] = await client.is_server_live(url)
        found["v1 ready"] = await client.is_model_ready(url, "open", headers=dict(headers))
        for member in ("instances", "inputs"):
            answer = await client.infer(url, {member: x.tolist()}, model_name="open", headers=dict(headers))
            found[member] = [prediction["label"] for prediction in answer["predictions"]]
    print(json.dumps(found))


asyncio.run(main(sys.argv[1], sys.argv[2], np.load(sys.argv[3], allow_pickle=False)))
