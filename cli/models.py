"""The commands of ``mlaas-range train``."""

from __future__ import annotations

import argparse
import sys
import time

from cli.flags import from_fields
from wire import BadInput
from wire.files import TEXT, read_bytes
from wire.fits import label_misfit, misfit
from zoo import data, folder, tensors
from zoo.cache import state_folder
from zoo.data import roles as divide
from zoo.data.pool import Pool
from zoo.families import FAMILIES, pretrained
from zoo.language.model import LanguageModel, is_language
from zoo.language.recipe import LANGUAGE
from zoo.network import Network
from zoo.recipe import READY, Recipe
from zoo.training import Training

CONVERT = (
    "if you trust it, convert it to safetensors: "
    "python -c 'import torch; from safetensors.torch import save_file; "
    'save_file(torch.load("FILE.pth", weights_only=True), "FILE.safetensors")\''
)


def roles(arguments: argparse.Namespace) -> None:
    """Divides a data set into one file per role."""
    if arguments.party is not None and arguments.out is None:
        raise BadInput("--party needs --out, the folder for the party's files")
    where = data.data_folder(arguments.data), state_folder() / "cache"
    if arguments.dataset is None:
        found, missed = data.load_or_digits("fashion_mnist", *where)
        if missed:
            print(missed, file=sys.stderr)
    else:
        found = data.load(arguments.dataset, *where)
    print(f"{found.name}: {len(found.pool)} rows from {found.source}")
    drawn, out = divide.kept(found, arguments.seed, state_folder()), arguments.out
    if out is None:
        paths = sorted(drawn.glob("*.npz"))
    elif arguments.party is not None:
        paths = divide.hand_out(drawn, arguments.party, out)
    else:
        paths = [path for party in divide.PARTIES for path in divide.hand_out(drawn, party, out / party)]
    for path in paths:
        print(path)


def train(arguments: argparse.Namespace) -> None:
    """Trains a model."""
    if (arguments.recipe is None) == (arguments.rows is None):
        raise BadInput("give either a recipe or, with --rows, a file to train on")
    if arguments.recipe in LANGUAGE:
        _train_language(arguments)
        return
    if arguments.recipe is not None:
        ready = READY[arguments.recipe]
        found = data.load(ready.data, data.data_folder(arguments.data), state_folder() / "cache")
        drawn = divide.kept(found, arguments.seed, state_folder())
        name, rows = arguments.recipe, drawn / "victim.npz"
        recipe = Recipe(ready.family, ready.training, arguments.seed or 0)
    else:
        name, rows = arguments.family, arguments.rows
        family = from_fields(FAMILIES[name], arguments, f"{name}_")
        recipe = Recipe(family, from_fields(Training, arguments), arguments.seed or 0)
    pool = Pool.load(rows)
    if arguments.against is not None:
        pool = pool.against(Pool.load(arguments.against))
    begun = None if arguments.start is None else folder.load(arguments.start, arguments.device).network()
    start = time.perf_counter()
    model = recipe.train(pool, device=arguments.device, label=name, start=begun)
    folder.save(model, arguments.out, seed=recipe.seed, rows=len(pool))
    seconds = time.perf_counter() - start
    name = name if begun is None else f"the network of {arguments.start}"
    print(f"{arguments.out}: {name} trained on the {len(pool)} rows of {rows} in {seconds:.1f} s")


def _train_language(arguments: argparse.Namespace) -> None:
    """Trains a language model on the victim's texts, and measures it on texts that no party has."""
    recipe = LANGUAGE[arguments.recipe]
    found = data.load(recipe.data, data.data_folder(arguments.data), state_folder() / "cache")
    drawn = divide.kept(found, arguments.seed, state_folder())
    pool, others = (Pool.load(drawn / f"{role}.npz") for role in ("victim", "evaluation"))
    start = time.perf_counter()
    model = recipe.make(pool, arguments.out, seed=arguments.seed or 0, label=arguments.recipe)
    seconds = time.perf_counter() - start
    print(
        f"{arguments.out}: {arguments.recipe} trained on the {len(pool)} texts of {drawn / 'victim.npz'} in "
        f"{seconds:.1f} s; perplexity of a token {model.perplexity(pool.x[:200]):.1f} on 200 of them, "
        f"{model.perplexity(others.x[:200]):.1f} on 200 others"
    )


def import_weights(arguments: argparse.Namespace) -> None:
    """Makes a model from torchvision weights."""
    try:
        if arguments.classes is None:
            names = pretrained.imagenet(arguments.name)
        else:
            lines = read_bytes(arguments.classes, TEXT).decode().splitlines()
            names = tuple(line.strip() for line in lines if line.strip())
        content = read_bytes(arguments.weights, folder.MOST_WEIGHTS)
    except UnicodeDecodeError:
        raise BadInput(f"{arguments.classes}: not a text file") from None
    network = Network.new(
        pretrained.Torchvision(arguments.name), tuple(arguments.shape), names, seed=0, device="cpu"
    )
    if content.startswith((b"PK", b"\x80")):
        raise BadInput(f"{arguments.weights}: a pickle, which can run arbitrary code; {CONVERT}")
    try:
        tensors.fill(network.module, pretrained.renamed(tensors.read(content)))
    except ValueError as error:
        raise BadInput(f"{arguments.weights}: {error}") from None
    folder.save(network, arguments.out, weights=arguments.weights.name)
    print(f"{arguments.out}: {arguments.name} of {len(names)} classes")


def evaluate(arguments: argparse.Namespace) -> None:
    """Prints a model's accuracy on labelled rows."""
    model, pool = folder.load(arguments.model, arguments.device), Pool.load(arguments.rows)
    takes = model.card()
    if takes.embedding:
        raise BadInput(f"{arguments.model}: an encoder has no classes, and so no accuracy")
    wrong = misfit(pool.x, takes) or label_misfit(pool.y, takes)
    if wrong is None and pool.class_names not in ((), takes.class_names):
        wrong = f"the classes are {', '.join(pool.class_names)}, but the model has {', '.join(takes.class_names)}"
    if wrong is None and (pool.features != takes.features or (pool.missing and not takes.missing)):
        wrong = "the rows do not have the model's features"
    if wrong is not None:
        raise BadInput(f"{arguments.rows}: {wrong}")
    print(f"accuracy {(model.predict(pool.x).argmax(1) == pool.y).mean():.4f} on {len(pool)} rows")


def card(arguments: argparse.Namespace) -> None:
    """Checks a model folder and prints the model's card."""
    if is_language(arguments.model):
        LanguageModel.load(arguments.model)
        print(read_bytes(arguments.model / folder.CARD, TEXT).decode(), end="")
        return
    folder.load(arguments.model, "cpu")
    print(folder.read_card(arguments.model).model_dump_json(indent=2))
