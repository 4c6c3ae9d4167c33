"""A server without a model behind it, and what the processor spends on a body."""

import asyncio
import gzip
import time

import numpy as np
import orjson

from defenses.store import open_store
from server.app import create_app
from server.control.log import ControlLog
from server.deployment.models import LoadedModel
from server.settings import Settings
from wire import Card
from wire.tensors import HEADER_LENGTH

SMALL = 2**16  # bytes of a body that must cost little
CARDS = {
    "images": Card("images", (1, 28, 28), 10, max_rows=1024, class_names=tuple("0123456789")),
    "bytes": Card(
        "bytes", (1, 28, 28), 10, dtype="UINT8", high=255.0, max_rows=1024, class_names=tuple("0123456789")
    ),
    "photos": Card("photos", (3, 224, 224), 10, max_rows=128, class_names=tuple("0123456789")),
    "table": Card("table", (14,), 2, low=None, high=None, max_rows=1024, missing=True, class_names=("a", "b")),
    "texts": Card("texts", (), 2, dtype="BYTES", low=None, high=None, max_rows=1024, class_names=("a", "b")),
}


class Costs:
    """A server in this process whose models answer at no cost.

    Attributes:
        spent: Processor seconds of the last request.
    """

    def __init__(self, path, **settings):
        self.settings = Settings(
            state=path,
            plans={"free": {}, "admin": {"admin": True}},
            victims=[{"name": name, "folder": "none", "max_rows": card.max_rows} for name, card in CARDS.items()],
            **settings,
        )
        self.loop = asyncio.new_event_loop()
        self.store = open_store(self.settings.store_url())
        served = {name: LoadedModel(card, _Batcher(card), "none", "", None) for name, card in CARDS.items()}
        self.app = create_app(self.settings, self.store, served, bytes(32))
        accounts = ControlLog(self.store, time.time).accounts
        self.keys = {
            plan: self.loop.run_until_complete(accounts.create(plan, plan, "the tests"))
            for plan in self.settings.plans
        }
        self.spent = 0.0

    def ask(self, path, body=b"", headers=None, *, plan="free", method="POST"):
        """Sends a request and returns the status and the body of the answer."""
        given = {} if plan is None else {"Authorization": f"Bearer {self.keys[plan]}"}
        given |= {"Content-Length": str(len(body)), **(headers or {})}
        parts = iter([{"type": "http.request", "body": body}])

        async def receive():
            return next(parts)

        return self.loop.run_until_complete(self.send(path, receive, list(given.items()), method=method))

    async def send(self, path, receive, headers, *, method="POST"):
        """Sends a request whose body ``receive`` returns."""
        scope = {"type": "http", "method": method, "path": path, "query_string": b"", "root_path": ""}
        scope["headers"] = [(name.lower().encode(), str(value).encode()) for name, value in headers]
        sent = []

        async def send(message):
            sent.append(message)

        begun = time.process_time()
        await self.app(scope, receive, send)
        self.spent = time.process_time() - begun
        return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])

    def close(self):
        self.loop.run_until_complete(self.store.close())
        self.loop.close()


class _Batcher:
    """Answers without a model."""

    most = 64

    def __init__(self, card):
        self.classes = card.classes

    async def __call__(self, x):
        return np.full((len(x), self.classes), 1 / self.classes, np.float32)


def v2(model, entry, raw=None, **members):
    """Returns path, body and headers of a request of one tensor; ``entry`` overwrites its members."""
    card = CARDS[model]
    tensor = {"name": "input", "shape": [1, *card.input_shape], "datatype": card.dtype, **entry}
    head = orjson.dumps({"inputs": [tensor], **members})
    path = f"/v2/models/{model}/infer"
    return (path, head, {}) if raw is None else (path, head + raw, {HEADER_LENGTH: str(len(head))})


def with_data(request, data):
    """Puts JSON that is perhaps not valid in place of the string ``DATA``."""
    path, body, headers = request
    return path, body.replace(b'"DATA"', data), headers


def packed(request):
    """Compresses the body of a request."""
    path, body, headers = request
    return path, gzip.compress(body), {**headers, "Content-Encoding": "gzip"}


_, BODY, _ = v2("table", {"data": [0] * 14})
