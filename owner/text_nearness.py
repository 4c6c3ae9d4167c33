"""How near a language model is to another, by what both say of the same texts.

All models find some texts harder than others. What a model says beyond that, text by text, it shares with the
model that it learnt from. So each model's log-likelihoods of texts are freed, by least squares, of those of other
models; the correlation with what is left of the victim's is the nearness.

Source: this project; the comparison of log-likelihoods with those of references is that of Carlini, Tramèr,
Wallace et al., "Extracting Training Data from Large Language Models", USENIX Security 2021, section 5.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from wire import Array, BadInput
from wire.completions import CompletionOracle, Decoding
from wire.files import TEXT, read_bytes
from wire.openai import CompletionEndpoint
from zoo.language.model import LanguageModel

FEWEST = 20  # texts


def log_likelihoods(model: CompletionOracle, texts: Sequence[str]) -> Array | None:
    """Returns the log-likelihood of each text after its first token, ``(n,)``; None if the model does not say."""
    told = model.collect(texts, Decoding(0, logprobs=0, echo=True))
    if len(told) < len(texts) or not all(one.logprobs for (one,) in told):
        return None
    return np.array([sum(value for value in one.logprobs if value is not None) for (one,) in told])


def nearness(model: Array, victim: Array, others: Sequence[Array]) -> float:
    """Returns the correlation of two models' log-likelihoods of texts, freed of those of other models.

    Args:
        model: Those of the model, ``(n,)``.
        victim: Those of the victim, ``(n,)``.
        others: Those of at least one other model.

    Raises:
        BadInput: There are too few texts.
    """
    if len(model) < FEWEST:
        raise BadInput(f"{len(model)} texts; expected at least {FEWEST} to compare models by")
    common = np.stack([np.ones(len(model)), *others], axis=1)
    own, theirs = (each - common @ np.linalg.lstsq(common, each, rcond=None)[0] for each in (model, victim))
    scale = np.sqrt((own**2).sum() * (theirs**2).sum())
    return float((own * theirs).sum() / scale) if scale > 0 else 0.0


def told_by(place: str, texts: Sequence[str], key: str | None = None) -> Array:
    """Returns the log-likelihoods that a model gives texts, ``(n,)``: one in a folder, or behind a URL.

    Args:
        place: The folder, or the URL of its server, with ``#`` and the model's name if there are several.
        texts: The texts, each shorter than the context.
        key: The API key.

    Raises:
        BadInput: There is no such model, or it does not say how likely it finds texts.
    """
    if Path(place).is_dir():
        return of_model(LanguageModel.load(Path(place)), texts)
    if not place.startswith(("http://", "https://")):
        raise BadInput(f"{place}: neither a model's folder nor a URL (http://... or https://...)")
    url, _, name = place.partition("#")
    with closing(CompletionEndpoint(url, model=name or None, key=key)) as endpoint:
        oracle = endpoint.oracle()
        if (found := log_likelihoods(oracle, texts)) is None:
            raise BadInput(f"{place} does not say how likely it finds texts: {oracle.ended}")
        return found


def of_model(model: LanguageModel, texts: Sequence[str]) -> Array:
    """Returns the same of a model at hand: without its first token, and without its end."""
    return np.array([float(model.log_likelihoods(text)[1:-1].sum()) for text in texts])


def read_texts(path: Path) -> list[str]:
    """Returns the lines of a file but empty ones, or raises :class:`~wire.BadInput`."""
    try:
        found = [line for line in read_bytes(path, TEXT).decode().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            f"{path}: {getattr(error, 'strerror', None) or 'not UTF-8'}; expected one text a line"
        ) from None
    if len(found) < FEWEST:
        raise BadInput(f"{path} has {len(found)} texts; expected at least {FEWEST}, one a line")
    return found
