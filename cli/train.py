"""``mlaas-range train`` and ``python -m zoo``: divides data, trains, imports and evaluates models."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from cli.command import Parser
from cli.flags import add_fields, add_quiet, at_least, summary
from cli.registry import keys, outline, resolve

FAMILIES = {
    "softmax": "zoo.families.logistic:Softmax",
    "logistic": "zoo.families.logistic:Logistic",
    "mlp": "zoo.families.mlp:Mlp",
    "cnn": "zoo.families.cnn:Cnn",
    "resnet": "zoo.families.resnet:Resnet",
    "torchvision": "zoo.families.pretrained:Torchvision",
    "svm": "zoo.families.svm:Svm",
    "tree": "zoo.families.trees:Tree",
    "forest": "zoo.families.trees:Forest",
    "gbdt": "zoo.families.gbdt:Gbdt",
    "knn": "zoo.families.knn:Knn",
    "tfidf": "zoo.families.text:Tfidf",
    "transformer": "zoo.families.transformer:Transformer",
    "encoder": "zoo.families.encoder:Encoder",
    "minilm": "zoo.families.minilm:Minilm",
}
"""Mirrors ``zoo.families.FAMILIES`` as strings, so that the help does not import torch."""


def main(argv: Sequence[str] | None = None, prog: str = "python -m zoo") -> None:
    """Runs one command."""
    parser = Parser(prog, description="Divides data, trains, imports and evaluates models.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (fill, about) in COMMANDS.items():
        full = prog if prog.endswith(" train") and name == "train" else f"{prog} {name}"
        commands.add_parser(name, prog=full, help=about, description=f"{about[0].upper()}{about[1:]}.", fill=fill)
    _run(parser.parse_args(argv))


def train(argv: Sequence[str], prog: str) -> None:
    """Runs ``mlaas-range train``: the command ``train``, unless another command is named."""
    others = [name for name in COMMANDS if name != "train"]
    if argv and argv[0] in others:
        main(argv, prog)
        return
    parser = Parser(prog, description=TRAINS, epilog=f"other commands: {prog} {'|'.join(others)} --help")
    parser.set_defaults(command="train")
    _add_train(parser)
    _run(parser.parse_args(argv))


def _run(arguments: argparse.Namespace) -> None:
    resolve(f"cli.models:{'import_weights' if arguments.command == 'import' else arguments.command}")(arguments)


def _add_roles(parser: Parser) -> None:
    names = ", ".join(keys("zoo.data.catalog:DATASETS"))
    parser.add_argument(
        "dataset",
        nargs="?",
        help=f"{names}, or a folder of images (default: fashion_mnist; if that cannot be found or downloaded, "
        "scikit-learn's digits)",
    )
    _add_data(parser)
    parser.add_argument(
        "--out", type=Path, metavar="PATH", help="folder for copies of the files, with one subfolder per party"
    )
    parser.add_argument(
        "--party",
        choices=keys("zoo.data.roles:PARTIES"),
        help="write only this party's files, into --out itself",
    )
    parser.add_argument(
        "--seed",
        type=at_least(0),
        metavar="N",
        help="seed of a division that anyone can repeat (default: divide at random once, and keep the result in "
        "the state folder, MLAAS_STATE or ./state)",
    )


TRAINS = (
    "Trains a model from a built-in recipe on the victim's rows of the recipe's data set, or a model of a given "
    "family on a file of rows."
)


def _add_train(parser: Parser) -> None:
    recipes = [*keys("zoo.recipe:READY"), *keys("zoo.language.recipe:LANGUAGE")]
    parser.add_argument(
        "recipe", nargs="?", metavar="RECIPE", choices=recipes, help=f"one of {', '.join(recipes)}"
    )
    _add_data(parser)
    parser.add_argument("--rows", type=Path, metavar="PATH", help="file of labelled rows, if no recipe is given")
    parser.add_argument(
        "--start",
        type=Path,
        metavar="FOLDER",
        help="folder of a network to go on training, in place of a new one; gives the family",
    )
    parser.add_argument(
        "--against",
        type=Path,
        metavar="PATH",
        help="file of other rows: train to distinguish the two files, for the out-of-distribution filter",
    )
    _add_out(parser)
    parser.add_argument(
        "--seed",
        type=at_least(0),
        metavar="N",
        help="seed of weights, row order, canaries and a recipe's roles (default: 0, with roles drawn at random "
        "once)",
    )
    _add_device(parser)
    add_quiet(parser)
    own = parser.add_argument_group("without a recipe")
    own.add_argument("--family", choices=FAMILIES, default="cnn", help="model family (default: %(default)s)")
    add_fields(own, outline("zoo.training:Training"))
    for name, target in FAMILIES.items():
        family = outline(target)
        add_fields(parser.add_argument_group(summary(family)), family, f"{name}_")


def _add_import(parser: Parser) -> None:
    parser.add_argument("name", help="name of a torchvision classifier, such as resnet18")
    parser.add_argument("--weights", type=Path, metavar="PATH", required=True, help="its weights (safetensors)")
    parser.add_argument(
        "--shape",
        type=at_least(1),
        nargs=3,
        default=(3, 224, 224),
        metavar="N",
        help="shape of an image (default: 3 224 224)",
    )
    parser.add_argument(
        "--classes", type=Path, metavar="PATH", help="file with one class name per line (default: ImageNet's)"
    )
    _add_out(parser)


def _add_evaluate(parser: Parser) -> None:
    _add_model(parser)
    parser.add_argument("rows", type=Path, help="file of labelled rows")
    _add_device(parser)


def _add_model(parser: Parser) -> None:
    parser.add_argument("model", type=Path, help="folder of the model")


def _add_data(parser: Parser) -> None:
    parser.add_argument("--data", type=Path, metavar="PATH", help="folder that holds data sets (MLAAS_DATA)")


def _add_out(parser: Parser) -> None:
    parser.add_argument(
        "--out", type=Path, metavar="PATH", required=True, help="folder for the model's weights and card"
    )


def _add_device(parser: Parser) -> None:
    parser.add_argument("--device", help="torch device (default: cuda if there is one, else cpu)")


COMMANDS = {
    "roles": (_add_roles, "divide a data set into one file per role"),
    "train": (_add_train, "train a model from a recipe, or on a file of rows"),
    "import": (_add_import, "make a model from torchvision weights"),
    "evaluate": (_add_evaluate, "measure a model's accuracy on labelled rows"),
    "card": (_add_model, "check a model folder and print the model's card"),
}
