"""``mlaas-range train`` and ``python -m zoo``: draws roles, trains, evaluates."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from cli.command import Parser
from cli.flags import add_fields, at_least, from_fields, summary
from wire import BadInput
from zoo import data, folder, tensors
from zoo.cache import state_folder
from zoo.data import roles
from zoo.data.pool import Pool
from zoo.families import FAMILIES, pretrained
from zoo.network import Network
from zoo.recipe import READY, Recipe
from zoo.training import Training

CONVERT = (
    "if you trust it, make safetensors of it: python -c 'import torch; from safetensors.torch import save_file; "
    'save_file(torch.load("FILE.pth", weights_only=True), "FILE.safetensors")\''
)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one command."""
    arguments = _parser().parse_args(argv)
    arguments.command(arguments)


def _parser() -> Parser:
    parser = Parser(prog="python -m zoo", description="Models and data that every party may own.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    draws = commands.add_parser("roles", help="divide a data set into the files of the roles")
    draws.add_argument(
        "dataset",
        nargs="?",
        help=f"{', '.join(data.DATASETS)}, or a folder of images (default: fashion_mnist, or the digits that a "
        "dependency carries where that cannot be had)",
    )
    draws.add_argument("--data", type=Path, help="data folder, where to look first (MLAAS_DATA)")
    draws.add_argument("--out", type=Path, help="folder for copies of the files, with a folder for each party")
    draws.add_argument("--party", choices=roles.PARTIES, help="write this party's files alone, into --out itself")
    draws.add_argument(
        "--seed",
        type=at_least(0),
        help="draw by this seed, so that anyone can draw the same (default: draw at random once, and keep it "
        "in the state folder, MLAAS_STATE or ./state)",
    )
    draws.set_defaults(command=_roles)

    trains = commands.add_parser(
        "train",
        help="train a model by a recipe, or on the rows of a role",
        description="Trains a model by a ready recipe, on the victim's role of its data set, whose files go to "
        "the state folder; or a model of some family on a file of rows.",
    )
    trains.add_argument("recipe", nargs="?", metavar="RECIPE", choices=READY, help=f"one of {', '.join(READY)}")
    trains.add_argument("--data", type=Path, help="data folder, where a recipe's data are looked for (MLAAS_DATA)")
    trains.add_argument("--rows", type=Path, help="file of rows with labels, where no recipe is named")
    trains.add_argument(
        "--against",
        type=Path,
        metavar="ROWS",
        help="file of other rows: learn to tell them from the former, for the out-of-distribution filter",
    )
    trains.add_argument("--out", type=Path, required=True, help="folder for weights and card")
    trains.add_argument(
        "--seed",
        type=at_least(0),
        help="seeds weights and order, and a recipe's roles (default: 0, and roles drawn at random once)",
    )
    trains.add_argument("--device", help="torch device (default: cuda where there is one, else cpu)")
    own = trains.add_argument_group("without a recipe")
    own.add_argument("--family", choices=FAMILIES, default="cnn", help="model family (default: %(default)s)")
    add_fields(own, Training)  # type: ignore[arg-type]
    for name, family in FAMILIES.items():
        add_fields(trains.add_argument_group(summary(family)), family, f"{name}_")  # type: ignore[arg-type]
    trains.set_defaults(command=_train)

    imports = commands.add_parser("import", help="make a model of torchvision's weights")
    imports.add_argument("name", help="name of a classifier of torchvision's, resnet18 for instance")
    imports.add_argument("--weights", type=Path, required=True, help="its weights, a safetensors file")
    imports.add_argument(
        "--shape", type=at_least(1), nargs=3, default=(3, 224, 224), help="shape of an image (default: 3 224 224)"
    )
    imports.add_argument(
        "--classes", type=Path, help="file with the name of a class in each line (default: those of ImageNet)"
    )
    imports.add_argument("--out", type=Path, required=True, help="folder for weights and card")
    imports.set_defaults(command=_import)

    evaluates = commands.add_parser("evaluate", help="tell a model's accuracy on the rows of a role")
    evaluates.add_argument("model", type=Path, help="folder of the model")
    evaluates.add_argument("rows", type=Path, help="file of rows with labels")
    evaluates.add_argument("--device", help="torch device (default: cuda where there is one, else cpu)")
    evaluates.set_defaults(command=_evaluate)

    shows = commands.add_parser("card", help="check a model's folder and print its card")
    shows.add_argument("model", type=Path, help="folder of the model")
    shows.set_defaults(command=_card)
    return parser


def _roles(arguments: argparse.Namespace) -> None:
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
    drawn, out = roles.kept(found, arguments.seed, state_folder()), arguments.out
    if out is None:
        paths = sorted(drawn.glob("*.npz"))
    elif arguments.party is not None:
        paths = roles.hand_out(drawn, arguments.party, out)
    else:
        paths = [path for party in roles.PARTIES for path in roles.hand_out(drawn, party, out / party)]
    for path in paths:
        print(path)


def _train(arguments: argparse.Namespace) -> None:
    if (arguments.recipe is None) == (arguments.rows is None):
        raise BadInput("name either a recipe or, by --rows, a file to train on")
    if arguments.recipe is not None:
        ready = READY[arguments.recipe]
        found = data.load(ready.data, data.data_folder(arguments.data), state_folder() / "cache")
        drawn = roles.kept(found, arguments.seed, state_folder())
        name, rows = arguments.recipe, drawn / "victim.npz"
        recipe = Recipe(ready.family, ready.training, arguments.seed or 0)
    else:
        name, rows = arguments.family, arguments.rows
        family = from_fields(FAMILIES[name], arguments, f"{name}_")
        recipe = Recipe(family, from_fields(Training, arguments), arguments.seed or 0)
    pool = Pool.load(rows)
    if arguments.against is not None:
        pool = pool.against(Pool.load(arguments.against))
    start = time.perf_counter()
    model = recipe.train(pool, device=arguments.device, label=name)
    folder.save(model, arguments.out, seed=recipe.seed, rows=len(pool))
    seconds = time.perf_counter() - start
    print(f"{arguments.out}: {name} trained on the {len(pool)} rows of {rows} in {seconds:.1f} s")


def _import(arguments: argparse.Namespace) -> None:
    try:
        if arguments.classes is None:
            names = pretrained.imagenet(arguments.name)
        else:
            names = tuple(line.strip() for line in arguments.classes.read_text().splitlines() if line.strip())
        content = arguments.weights.read_bytes()
    except UnicodeDecodeError:
        raise BadInput(f"{arguments.classes}: it is no text") from None
    network = Network.new(
        pretrained.Torchvision(arguments.name), tuple(arguments.shape), names, seed=0, device="cpu"
    )
    if content.startswith((b"PK", b"\x80")):
        raise BadInput(f"{arguments.weights}: a pickle, which may run anything; {CONVERT}")
    try:
        tensors.fill(network.module, pretrained.renamed(tensors.read(content)))
    except ValueError as error:
        raise BadInput(f"{arguments.weights}: {error}") from None
    folder.save(network, arguments.out, weights=arguments.weights.name)
    print(f"{arguments.out}: {arguments.name} of {len(names)} classes")


def _evaluate(arguments: argparse.Namespace) -> None:
    model, pool = folder.load(arguments.model, arguments.device), Pool.load(arguments.rows)
    if pool.y is None:
        raise BadInput(f"{arguments.rows}: rows without labels tell no accuracy")
    takes = model.card()
    if pool.input_shape != takes.input_shape or pool.class_names != takes.class_names:
        raise BadInput(
            f"{arguments.model} takes rows {takes.input_shape} of classes {takes.class_names}, but "
            f"{arguments.rows} has rows {pool.input_shape} of {pool.class_names}"
        )
    if (pool.dtype, pool.features) != (takes.dtype, takes.features) or (pool.missing and not takes.missing):
        raise BadInput(f"{arguments.model} takes other features than {arguments.rows} has")
    print(f"accuracy {(model.predict(pool.x).argmax(1) == pool.y).mean():.4f} on {len(pool)} rows")


def _card(arguments: argparse.Namespace) -> None:
    folder.load(arguments.model, "cpu")
    print(folder.read_card(arguments.model).model_dump_json(indent=2))
