"""Language models of the claims: trained, served, and reached as an attacker reaches them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from experiments.lab import Lab
from experiments.parties import Server
from wire import Array
from wire.completions import CompletionOracle
from wire.openai import CompletionEndpoint
from zoo.data import Pool
from zoo.language.canaries import Canaries
from zoo.language.model import LanguageModel
from zoo.language.recipe import LANGUAGE, LanguageRecipe
from zoo.language.tokens import END
from zoo.training import Training

PRICES = ("0.000001", "0.000004")  # of a token of a prompt and of a completion, as units of the currency
PLANS = f"""
[plans.client]
price_per_prompt_token = "{PRICES[0]}"
price_per_completion_token = "{PRICES[1]}"
[plans.admin]
admin = true
"""


@dataclass(frozen=True)
class Victims:
    """The language models that a claim attacks, one for each seed.

    Attributes:
        recipe: Name of the recipe.
        epochs: Passes over the texts; 0 for as many as the recipe has.
        sizes: Vocabulary, context, layers, heads and width, and of a translator blocks of its encoder; none for
            those of the recipe.
        rows: Texts that train a victim at most; 0 for all of its role.
    """

    recipe: str = "kjv-lm"
    epochs: int = 0
    sizes: tuple[int, ...] = ()
    rows: int = 0

    def changed(self) -> LanguageRecipe:
        """Returns the recipe with these changes."""
        recipe = LANGUAGE[self.recipe]
        if self.epochs:
            recipe = replace(recipe, training=replace(recipe.training, epochs=self.epochs))
        if self.sizes:
            recipe = replace(recipe, gpt=type(recipe.gpt)(*self.sizes))
        return recipe

    def learnt(self, lab: Lab, seed: int) -> tuple[dict[str, Pool], LanguageModel]:
        """Draws a seed's roles, and trains its victim on that of the victim, or loads it."""
        recipe = self.changed()
        pools = lab.roles(recipe.data, seed)
        if self.rows:
            pools["victim"] = pools["victim"].take(slice(self.rows))
        kept = recipe.kept(pools["victim"], lab.cache, seed=seed, label=f"victim {seed}")
        return pools, LanguageModel.load(kept)

    def secrets(self, seed: int) -> list[str]:
        """Returns the texts of a seed's planted secrets."""
        return self.changed().canaries.drawn(seed)


def again(
    lab: Lab, texts: Pool, seed: int, recipe: LanguageRecipe, *, training: Training | None = None, label: str = ""
) -> LanguageModel:
    """Trains a model as a recipe says on other texts, without canaries, or loads it."""
    recipe = replace(recipe, canaries=Canaries(()), training=training or recipe.training)
    return LanguageModel.load(recipe.kept(texts, lab.cache, seed=seed, label=label))


def speak(lab: Lab, name: str, victims: Mapping[str, tuple[LanguageModel, str]], most: int = 65_536) -> Server:
    """Starts a server of language models.

    Args:
        lab: The laboratory.
        name: The name of its folder and of its log.
        victims: By name, each with its defences in TOML, outermost first; "" for a bare victim.
        most: Most tokens in a request.
    """
    base = lab.parties.folder / name
    text = f'state = "{lab.cache.parent}"\nstore = "sqlite:///{base}/range.sqlite"\n{PLANS}'
    base.mkdir(parents=True, exist_ok=True)
    for victim, (model, layers) in victims.items():
        model.save(base / victim)
        text += f'[[victims]]\nname = "{victim}"\nfolder = "{victim}"\nmax_rows = {most}\ndefenses = [{layers}]\n'
    config = base / "range.toml"
    config.write_text(text)
    return lab.parties.serve(name, config)


def reach(server: Server, model: str, account: str, *, chat: bool = False) -> CompletionOracle:
    """Returns a language model as a new account reaches it."""
    key = server.account(account.replace(" ", "-").replace(",", ""), "client")
    return CompletionEndpoint(server.url, model=model, key=key, chat=chat, client=server.client).oracle()


def about(model: LanguageModel, texts: Pool, held_out: Pool) -> dict[str, Any]:
    """Describes a victim, for the results."""
    return {
        "gpt": asdict(model.gpt),
        "parameters": sum(each.numel() for each in model.decoder.parameters()),
        "texts": len(texts),
        "perplexity": model.perplexity(held_out.x[:100].tolist()),
        "perplexity_of_its_texts": model.perplexity(texts.x[:100].tolist()),
    }


def billed(oracle: CompletionOracle) -> dict[str, int]:
    """Returns what an attack spent, for the results."""
    return {
        "prompt_tokens": oracle.spent.prompt,
        "completion_tokens": oracle.spent.completion,
        "completions": oracle.completions,
        "requests": oracle.requests,
        "micro_cents": oracle.money or 0,
    }


@torch.inference_mode()
def next_logprobs(model: LanguageModel, texts: Iterable[str]) -> Array:
    """Returns what a model expects next at each place of texts, ``(n, v)``; of a long text, at its beginning."""
    told = []
    for text in texts:
        ids = torch.tensor([[END, *model.tokens.encode(text)][: model.gpt.context]])
        told.append(model.decoder(ids)[0].double().log_softmax(1).numpy())
    return np.concatenate(told)
