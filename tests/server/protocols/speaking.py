"""What the tests of openai share."""

import asyncio
import json

from parts import Local

from server.app import create_app, server_secret
from server.deployment.language import load_languages
from server.deployment.models import load_all

CONFIG = """
state = "state"
[plans.paying]
price_per_request = "0.01"
price_per_prompt_token = "0.000001"
price_per_completion_token = "0.000004"
[plans.free]
skip = ["rate_limit", "quota"]
[[victims]]
name = "net"
folder = "net"
[[victims]]
name = "kjv"
folder = "kjv"
max_rows = 200
defenses = [
    { type = "rate_limit", rows_per_second = 1, burst = 200 },
    { type = "quota", rows = 400, per = "day" },
]
"""


class Speaking(Local):
    """A server in this process with a language model."""

    def __init__(self, config):
        super().__init__(config)
        secret = asyncio.run(server_secret(self.store))
        languages, served = load_languages(self.settings), load_all(self.settings)
        self.app = create_app(self.settings, self.store, served, secret, self.clock, languages=languages)
        self.keys = {}

    def post(self, route="completions", plan="paying", headers=None, **body):
        body = {"model": "kjv", "temperature": 0, **body}
        if "messages" not in body:
            body.setdefault("prompt", "The king said")
        return self.raw(json.dumps(body), route, plan, headers)

    def raw(self, content, route="completions", plan="paying", headers=None):
        own = self.key(plan)
        return self.client.post(f"http://local/v1/{route}", content=content, headers={**own, **(headers or {})})

    def key(self, plan="paying"):
        if plan not in self.keys:
            self.keys[plan] = self.headers(plan, plan)
        return self.keys[plan]

    def account(self, name="someone", plan="paying"):
        return super().account(name, plan)

    def statement(self, plan="paying"):
        return self.client.get("http://local/v1/account", headers=self.key(plan)).json()

    def billed(self, plan="paying"):
        """Prompt and completion tokens, requests, and what is left of the limits."""
        told = self.statement(plan)
        tokens = told["tokens"].get("kjv", {"prompt_tokens": 0, "completion_tokens": 0})
        return tokens["prompt_tokens"], tokens["completion_tokens"], told["requests"], told["micro_cents"]
