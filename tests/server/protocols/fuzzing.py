"""Requests of OpenAI's protocol, drawn at random, most of them wrong in one place; and their clients."""

import asyncio
import json
import random
from dataclasses import dataclass, field

TEXTS = ["", "The king said", "go", "tell\x00", "κύριος", "🙂" * 3, "x" * 30, "<|endoftext|>", "{{ 7 * 7 }}"]
TEXTS.append("a" * 9000)
NUMBERS = [0, 1, -1, 2, 3, 5, 6, 20, 21, 128, 300, 299, 2**31, 2**63, -(2**63), 10**400, 0.5, 1e-320, -0.0, 1e308]
RAW = ["NaN", "Infinity", "-Infinity", "1e999", "null", "true", '"\\ud800"', "[]", "{}", "[[[[1]]]]", "1_0", ""]
ROLES = ["system", "user", "assistant", "developer", "tool", "", "{% include x %}", "user\n", None, 7]
FIELDS = ("max_tokens", "temperature", "top_p", "seed", "n", "logprobs", "top_logprobs", "echo", "stop", "stream")
FIELDS += ("logit_bias", "best_of", "presence_penalty", "user", "model", "prompt", "messages", "suffix", "tools")
MARK = "\x01raw\x01"


def asked(rng):
    """A request's route and a body that is right."""
    body = {"model": "kjv", "max_tokens": rng.randint(1, 4), "temperature": rng.choice([0, 0.7, 1, 2])}
    chat = rng.random() < 0.4
    if chat:
        roles = rng.choices(ROLES[:4], k=rng.randint(1, 2))
        body["messages"] = [{"role": role, "content": "The king"} for role in roles]
    else:
        body["prompt"] = rng.choice(["The king said", [5, 6], ["Go", "Tell"], [[7], [8, 9]], ""])
    if rng.random() < 0.5:
        body["logprobs"] = True if chat else rng.randint(0, 5)
        if chat and rng.random() < 0.5:
            body["top_logprobs"] = rng.randint(0, 20)
    for name, draw in (
        ("n", lambda: rng.randint(1, 3)),
        ("seed", lambda: rng.randint(0, 5)),
        ("top_p", lambda: rng.choice([0, 0.5, 1])),
        ("stop", lambda: rng.choice(["e", ["a", "king"]])),
        (
            "logit_bias",
            lambda: {str(rng.randrange(300)): rng.uniform(-100, 100) for _ in range(9)},
        ),
    ):
        if rng.random() < 0.2:
            body[name] = draw()
    if not chat and rng.random() < 0.2:
        body["echo"] = True
    return ("chat/completions" if chat else "completions"), body


def spoilt(rng, body):
    """The bytes of a body that is wrong, or at least unusual, in one place."""
    how = rng.random()
    if how < 0.6:
        value = rng.choice([rng.choice(NUMBERS), rng.choice(TEXTS), MARK, [rng.choice(NUMBERS)], {"a": MARK}])
        name = rng.choice(FIELDS)
        if name == "logit_bias" and rng.random() < 0.7:
            keys = [rng.choice(["300", "-1", "1e3", "٣", "0", "299", "", "7" * 500]), str(rng.randrange(400))]
            value = {key: rng.choice([*NUMBERS, MARK]) for key in keys}
            value |= {str(i): 1 for i in range(rng.choice([0, 299, 400]))}
        elif name == "messages":
            value = [{"role": rng.choice(ROLES), "content": rng.choice([*TEXTS, None, 7, [{"type": "text"}]])}]
        body[name] = value
        if name == "stream":  # if it becomes one, it tells its usage
            body["stream_options"] = {"include_usage": True}
    content, marked = json.dumps(body), json.dumps(MARK)
    while marked in content:
        content = content.replace(marked, rng.choice(RAW), 1)
    content = content.encode()
    if how < 0.6:
        return content
    if how < 0.7:
        return content[: rng.randrange(len(content))]
    if how < 0.85:
        changed = bytearray(content)
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        return bytes(changed)
    if how < 0.9:
        return content[:-1] + b', "model": "kjv", "n": 2}'  # a key twice
    if how < 0.95:
        return rng.choice([b"[" * 5000, b'{"a":' * 3000, b"\xff\xfe", b"", b"null", b"7", content * 3])
    return json.dumps({**body, rng.choice(["temprature", "prompt ", "", "\x00"]): 1}).encode()


@dataclass
class Counts:
    """What clients saw."""

    statuses: dict[int, int] = field(default_factory=dict)
    cut: int = 0
    prompt: int = 0
    completion: int = 0
    billed: int = 0
    faults: list[tuple[bytes, int]] = field(default_factory=list)


class Client:
    """A client that counts its own tokens, and leaves some streams before their end."""

    def __init__(self, app, authorization, tokens, counts, seed):
        self.app, self.authorization, self.tokens, self.counts = app, authorization.encode(), tokens, counts
        self.rng = random.Random(seed)

    async def once(self):
        """Sends one request, and counts what it is told."""
        rng = self.rng
        route, body = asked(rng)
        right = rng.random() < 0.3
        stream = right and rng.random() < 0.5
        prompts = body.get("prompt")
        if stream:
            body |= {"stream": True, "logprobs": True if route.startswith("chat") else 0}
        content = json.dumps(body).encode() if right else spoilt(rng, body)
        leaves = rng.randint(0, 4) if stream and rng.random() < 0.5 else None
        status, answer = await self.send(f"/v1/{route}", content, leaves)
        counts = self.counts
        counts.statuses[status] = counts.statuses.get(status, 0) + 1
        if status >= 500 or (right and status not in (200, 429) and leaves is None):
            counts.faults.append((content, status))
        counts.cut += leaves is not None
        if status != 200 or (leaves == 0 and not answer):
            return
        if not answer.startswith(b"data: "):
            usage = json.loads(answer)["usage"]
            self.count(usage["prompt_tokens"], usage["completion_tokens"])
            return
        events = [event.removeprefix(b"data: ") for event in answer.split(b"\n\n") if event]
        if stream:
            pieces = [json.loads(event)["choices"] for event in events if event != b"[DONE]"]
            told = sum(len(listed(choice["logprobs"])) for piece in pieces for choice in piece)
            echoed = self.echoed(pieces, prompts, body) if body.get("echo") else 0
            if pieces:
                self.count(self.prompted(route, body), told - echoed)
        else:
            usage = json.loads(events[-2])["usage"]
            self.count(usage["prompt_tokens"], usage["completion_tokens"])

    def prompted(self, route, body):
        """Tokens of the prompts."""
        if route.startswith("chat"):
            texts = [" ".join(message["content"] for message in body["messages"])]
        else:
            given = body["prompt"]
            texts = [given] if isinstance(given, str) or (given and isinstance(given[0], int)) else given
        return sum(len(self.tokens.encode(text)) if isinstance(text, str) else len(text) for text in texts)

    def echoed(self, pieces, prompts, body):
        """Tokens of prompts among those told."""
        given = [prompts] if isinstance(prompts, str) or (prompts and isinstance(prompts[0], int)) else prompts
        lengths = [len(self.tokens.encode(text)) if isinstance(text, str) else len(text) for text in given]
        n, told = body.get("n", 1), {}
        for choice in (choice for piece in pieces for choice in piece):
            told[choice["index"]] = told.get(choice["index"], 0) + len(listed(choice["logprobs"]))
        return sum(min(found, lengths[index // n]) for index, found in told.items())

    def count(self, prompt, completion):
        """Counts what was told."""
        self.counts.prompt += prompt
        self.counts.completion += completion
        self.counts.billed += 1

    async def send(self, path, content, leaves):
        """Returns status and body; leaves after so many events, if that is not None."""
        left, begun, status, body, events = asyncio.Event(), False, 0, b"", 0
        if leaves == 0:
            left.set()

        async def receive():
            nonlocal begun
            if not begun:
                begun = True
                return {"type": "http.request", "body": content, "more_body": False}
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            nonlocal status, body, events
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message.get("body"):
                body += message["body"]
                events += 1
                if leaves is not None and events >= leaves:
                    left.set()
                    await asyncio.sleep(0)

        headers = [(b"authorization", self.authorization), (b"host", b"local")]
        headers.append((b"content-length", b"%d" % len(content)))
        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": headers,
            "http_version": "1.1",
            "scheme": "http",
            "client": ("127.0.0.1", 1),
            "server": ("local", 80),
        }
        await self.app(scope, receive, send)
        return status, body


def listed(logprobs):
    """The tokens of a piece."""
    return logprobs["content"] if "content" in logprobs else logprobs["tokens"]
