"""What users of the clients ``openai`` and ``litellm`` do; run by their own Python, and imports nothing of ours.

python openai_calls.py CLIENT URL KEY

Prints, as JSON, what was told, and the tokens that the client counted.
"""

import json
import os
import sys

PROMPT = "The king said"
CHAT = [{"role": "system", "content": "Go"}, {"role": "user", "content": [{"type": "text", "text": PROMPT}]}]


def by_openai(url, key):
    import openai

    client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=2)
    told = {"models": [model.id for model in client.models.list()], "model": client.models.retrieve("kjv").id}
    told["usage"] = []

    def counted(answer):
        told["usage"].append([answer.usage.prompt_tokens, answer.usage.completion_tokens])
        return answer

    create = client.completions.create
    whole = counted(create(model="kjv", prompt=PROMPT, max_tokens=8, temperature=0, logprobs=5, seed=1))
    told["text"], told["tokens"] = whole.choices[0].text, whole.choices[0].logprobs.tokens
    told["top"] = [len(top) for top in whole.choices[0].logprobs.top_logprobs]
    ids = counted(create(model="kjv", prompt=[5, 6, 7], max_tokens=2, n=3, logit_bias={"9": 100}, top_p=0.9))
    told["biased"] = [choice.text for choice in ids.choices]
    echoed = counted(create(model="kjv", prompt=PROMPT, max_tokens=0, echo=True, logprobs=1))
    told["echoed"] = echoed.choices[0].text
    options = {"stream": True, "stream_options": {"include_usage": True}}
    pieces = list(create(model="kjv", prompt=PROMPT, max_tokens=8, temperature=0, **options))
    told["streamed"] = "".join(choice.text for piece in pieces for choice in piece.choices)
    counted(pieces[-1])

    chat = client.chat.completions.create
    answer = counted(
        chat(model="kjv", messages=CHAT, max_completion_tokens=5, temperature=0, logprobs=True, top_logprobs=20)
    )
    told["chat"], told["finish"] = answer.choices[0].message.content, answer.choices[0].finish_reason
    told["chat_top"] = [len(one.top_logprobs) for one in answer.choices[0].logprobs.content]
    pieces = list(chat(model="kjv", messages=CHAT, max_tokens=5, temperature=0, **{**options, "stop": ["zzz"]}))
    told["chat_streamed"] = "".join(c.delta.content or "" for piece in pieces for c in piece.choices)
    counted(pieces[-1])
    embedded = client.embeddings.create(model="kjv", input=[PROMPT, "Go"])  # in base64, unless told otherwise
    plain = client.embeddings.create(model="kjv", input=[[5, 6]], encoding_format="float")
    told["widths"] = [len(one.embedding) for one in [*embedded.data, *plain.data]]
    told["usage"] += [[each.usage.prompt_tokens, 0] for each in (embedded, plain)]
    raw = client.completions.with_raw_response.create(model="kjv", prompt=PROMPT, max_tokens=1)
    counted(raw.parse())
    told["headers"] = {name: value for name, value in raw.headers.items() if name.startswith("x-ratelimit")}

    told["errors"] = {}
    for name, expected, asked in (
        ("bias", openai.BadRequestError, {"model": "kjv", "prompt": "a", "logit_bias": {"9999": 1}}),
        ("model", openai.NotFoundError, {"model": "gpt-7", "prompt": "a"}),
        ("long", openai.BadRequestError, {"model": "kjv", "prompt": "a", "max_tokens": 1000}),
    ):
        try:
            create(**asked)
        except expected as error:
            told["errors"][name] = [error.status_code, error.body["message"], error.type]
    try:
        openai.OpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0).models.list()
    except openai.AuthenticationError as error:
        told["errors"]["key"] = [error.status_code, error.message, error.type]
    return told


def by_litellm(url, key):
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it fetches prices from elsewhere
    import litellm

    litellm.telemetry = False
    where = {"api_base": f"{url}/v1", "api_key": key, "temperature": 0}
    told = {"usage": []}

    def counted(answer):
        told["usage"].append([answer.usage.prompt_tokens, answer.usage.completion_tokens])
        return answer

    chat = {"model": "openai/kjv", "messages": CHAT, "max_tokens": 5, **where}
    answer = counted(litellm.completion(**chat, logprobs=True, top_logprobs=3))
    told["chat"] = answer.choices[0].message.content
    told["chat_top"] = [len(one.top_logprobs) for one in answer.choices[0].logprobs.content]
    pieces = list(litellm.completion(**chat, stream=True, stream_options={"include_usage": True}))
    told["chat_streamed"] = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
    counted(next(piece for piece in reversed(pieces) if getattr(piece, "usage", None)))
    whole = {"model": "text-completion-openai/kjv", "prompt": PROMPT, "max_tokens": 8, "n": 2, **where}
    told["texts"] = [choice.text for choice in counted(litellm.text_completion(**whole)).choices]
    told["errors"] = {}
    try:
        litellm.completion(**{**chat, "max_tokens": 1000}, num_retries=0)
    except litellm.BadRequestError as error:
        told["errors"]["long"] = [error.status_code, str(error)]
    return told


if __name__ == "__main__":
    client, *where = sys.argv[1:]
    print(json.dumps({"openai": by_openai, "litellm": by_litellm}[client](*where)))
