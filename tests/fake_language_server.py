"""A tiny server of OpenAI's protocol, for tests of clients that must not know the real one."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.completing import completed
from wire import Refused
from wire.completions import Decoding

PRICES = {"per_prompt_token": 100, "per_completion_token": 400}


class FakeLanguageServer:
    """Serves a language model, ``m``, at ``url``, for the key ``key``.

    ``on_request`` is called before each answer, and ``refuse_after`` requests all others are refused for good.
    """

    def __init__(self, model):
        self.model, self.key, self.on_request, self.refuse_after = model, "secret-key", lambda: None, None
        self.requests, self.echoes = 0, True
        self.spent = {"prompt_tokens": 0, "completion_tokens": 0}

    def __enter__(self):
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"fake": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def account(self):
        return {"account": "thief", "prices": PRICES, **self.spent}

    def answer(self, body):
        with self._lock:
            self.on_request()
            if self.refuse_after is not None and self.requests >= self.refuse_after:
                raise Refused("no more", status=403)
            if body.get("echo") and not self.echoes:
                raise Refused("echo is not offered here", status=400)
            bias = {int(token): value for token, value in body.pop("logit_bias", {}).items()}
            prompts, _ = body.pop("prompt"), body.pop("model")
            told, usage = completed(self.model, (prompts, Decoding(**body, logit_bias=bias)))
            self.requests += 1
            self.spent["prompt_tokens"] += usage.prompt
            self.spent["completion_tokens"] += usage.completion
        choices = [_choice(at, one) for at, one in enumerate(one for each in told for one in each)]
        return {
            "choices": choices,
            "usage": {"prompt_tokens": usage.prompt, "completion_tokens": usage.completion},
        }


def _choice(at, one):
    choice = {"index": at, "text": one.text, "finish_reason": one.finish, "logprobs": None}
    if one.tokens:
        choice["logprobs"] = {
            "tokens": one.tokens,
            "token_logprobs": one.logprobs,
            "top_logprobs": one.top,
        }
    return choice


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *of):
        """Says nothing."""

    def do_GET(self):
        listed = {"data": [{"id": "m"}]}
        self._send(200, self.fake.account() if self.path == "/v1/account" else listed)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["Authorization"] != f"Bearer {self.fake.key}":
            self._send(401, {"error": {"message": "unknown key"}})
            return
        try:
            self._send(200, self.fake.answer(body))
        except Refused as refused:
            self._send(refused.status, {"error": {"message": str(refused)}})

    def _send(self, status, content):
        told = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)
