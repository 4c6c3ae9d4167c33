"""A language model that is asked in the same thread, without a server; it may tell all log-probabilities."""

from wire import Refused
from wire.completions import Completed, Completion, CompletionOracle, TokenUsage
from zoo.language.generation import Batch, text_of
from zoo.language.reading import Reader
from zoo.language.sampling import Sampling


def completed(model, asked, change=lambda told: told):
    """Answers a request as the server does; ``change`` changes each token's log-probabilities."""
    prompts, decoding = asked
    v = len(model.tokens)
    if any(token >= v for token in decoding.logit_bias):
        raise Refused(f"the model has tokens 0 to {v - 1}", status=400)
    batch, texts = Batch(model), []
    for prompt in prompts:
        ids = model.tokens.encode(prompt) if isinstance(prompt, str) else list(prompt)
        if len(ids) + max(decoding.max_tokens, 1) > model.gpt.context:
            raise Refused("the prompt is longer than the context", status=400)
        for number in range(decoding.n):
            sampling = Sampling(
                decoding.max_tokens,
                decoding.temperature,
                decoding.top_p,
                (decoding.seed or 0) + number,
                decoding.logprobs,
                decoding.echo,
                decoding.logit_bias,
            )
            texts.append(text_of(model, ids, sampling))
            batch.join(texts[-1])
    told = {text: [] for text in texts}
    while len(batch):
        for text, tokens in batch.step():
            told[text] += tokens
    name = model.tokens.name
    completions = []
    for text in texts:
        tokens = change(told[text]) if decoding.logprobs is not None else told[text]
        content = Reader().read(model.tokens.bytes_of(one.token for one in tokens), last=True)
        parts = (), (), ()
        if decoding.logprobs is not None:
            parts = (
                tuple(name(one.token) for one in tokens),
                tuple(one.logprob for one in tokens),
                tuple({name(token): value for token, value in one.top} for one in tokens),
            )
        completions.append(Completion(content, *parts, tokens[-1].finish if tokens else "length"))
    usage = TokenUsage(
        sum(len(text.prompt) + len(text.read) for text in texts) // decoding.n,
        sum(len(told[text]) - len(text.prompt) * decoding.echo for text in texts),
    )
    n = decoding.n
    return Completed([completions[at : at + n] for at in range(0, len(completions), n)], usage)


def oracle(model, budget=None, *, top=5, change=lambda told: told, **more):
    return CompletionOracle(lambda asked: completed(model, asked, change), "tiny", budget, top=top, **more)
