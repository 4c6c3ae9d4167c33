"""Draws roles, trains, evaluates: ``python -m zoo --help``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from wire import BadInput
from wire.command import Parser, add_fields, at_least, from_fields, run, state_folder, summary
from zoo import data, folder
from zoo.data import roles
from zoo.data.pool import Pool
from zoo.families import FAMILIES
from zoo.recipe import Recipe
from zoo.training import Training


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
    draws.add_argument("--out", type=Path, required=True, help="folder for the files")
    draws.add_argument("--seed", type=at_least(0), default=0, help="seeds the draw (default: %(default)s)")
    draws.set_defaults(command=_roles)

    trains = commands.add_parser("train", help="train a model on the rows of a role")
    trains.add_argument("rows", type=Path, help="file of rows with labels")
    trains.add_argument("--family", choices=FAMILIES, default="cnn", help="model family (default: %(default)s)")
    trains.add_argument("--out", type=Path, required=True, help="folder for weights and card")
    trains.add_argument(
        "--seed", type=at_least(0), default=0, help="seeds weights and order (default: %(default)s)"
    )
    trains.add_argument("--device", help="torch device (default: cuda where there is one, else cpu)")
    add_fields(trains, Training)
    for name, family in FAMILIES.items():
        add_fields(trains.add_argument_group(summary(family)), family, f"{name}_")  # type: ignore[arg-type]
    trains.set_defaults(command=_train)

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
    where = data.data_folder(arguments.data), state_folder() / "cache"
    if arguments.dataset is None:
        found, missed = data.load_or_digits("fashion_mnist", *where)
        if missed:
            print(missed, file=sys.stderr)
    else:
        found = data.load(arguments.dataset, *where)
    print(f"{found.name}: {len(found.pool)} rows from {found.source}")
    for path in sorted(roles.written(found, arguments.seed, arguments.out).glob("*.npz")):
        print(path)


def _train(arguments: argparse.Namespace) -> None:
    pool = Pool.load(arguments.rows)
    family = from_fields(FAMILIES[arguments.family], arguments, f"{arguments.family}_")
    recipe = Recipe(family, from_fields(Training, arguments), arguments.seed)
    start = time.perf_counter()
    network = recipe.train(pool, device=arguments.device, label=arguments.family)
    folder.save(network, arguments.out, seed=recipe.seed, rows=len(pool))
    print(
        f"{arguments.out}: {arguments.family} trained on {len(pool)} rows in {time.perf_counter() - start:.1f} s"
    )


def _evaluate(arguments: argparse.Namespace) -> None:
    network, pool = folder.load(arguments.model, arguments.device), Pool.load(arguments.rows)
    if pool.y is None:
        raise BadInput(f"{arguments.rows}: rows without labels tell no accuracy")
    if pool.input_shape != network.input_shape or pool.class_names != network.class_names:
        raise BadInput(
            f"{arguments.model} takes rows {network.input_shape} of classes {network.class_names}, but "
            f"{arguments.rows} has rows {pool.input_shape} of {pool.class_names}"
        )
    print(f"accuracy {(network.predict(pool.x).argmax(1) == pool.y).mean():.4f} on {len(pool)} rows")


def _card(arguments: argparse.Namespace) -> None:
    folder.load(arguments.model, "cpu")
    print(folder.read_card(arguments.model).model_dump_json(indent=2))


if __name__ == "__main__":
    run(main)
