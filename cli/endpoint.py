"""Flags that select a served model, and the function that connects to it."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.flags import add_fields, add_quiet, from_fields
from cli.registry import outline

if TYPE_CHECKING:
    from httpx import Client

    from wire.http import Endpoint
    from wire.openai import CompletionEndpoint


def add_endpoint(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that select a served model and say how to connect to it."""
    add_connection(parser)
    add_card_options(parser.add_argument_group("if the server does not describe its model"))


def add_connection(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Adds the flags of a server, an account and a model's name; returns their group."""
    group = parser.add_argument_group("endpoint")
    url = os.environ.get("MLAAS_URL")
    group.add_argument(
        "--url", default=url, required=url is None, help="the server's URL, or the model's own (MLAAS_URL)"
    )
    group.add_argument("--model", metavar="NAME", help="name of the model; not needed if the server has only one")
    group.add_argument("--key", default=os.environ.get("MLAAS_KEY"), help="API key (MLAAS_KEY)")
    group.add_argument(
        "--key-file",
        type=Path,
        metavar="PATH",
        default=os.environ.get("MLAAS_KEY_FILE"),
        help="file that holds the API key, read if --key is not given (MLAAS_KEY_FILE)",
    )
    group.add_argument(
        "--patience",
        type=float,
        metavar="SECONDS",
        default=300.0,
        help="longest wait for one request, its retries included (default: 300)",
    )
    add_quiet(group)
    return group


def add_completions(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that select a served language model."""
    add_connection(parser).add_argument(
        "--chat", action="store_true", help="ask for chat completions, which tell more log-probabilities"
    )


def add_card_options(group: argparse._ArgumentGroup, prefix: str = "") -> None:
    """Adds the flags that complete or override a model's card."""
    add_fields(group, outline("wire.http:CardOptions"), prefix)


def reach(
    arguments: argparse.Namespace, *, prefix: str = "", key: str | None = None, client: Client | None = None
) -> Endpoint:
    """Opens the endpoint that the flags select.

    Args:
        arguments: Parsed flags of :func:`add_endpoint`.
        prefix: Prefix of the flags' names. An endpoint without a key of its own uses ``--key``.
        key: A key to use in place of that of the flags.
        client: The HTTP client to use; by default a new one.

    Raises:
        BadInput: The URL, the key or the model's description cannot be used.
        Refused: The server has no such model, or refuses the key.
        Unreachable: The server did not answer.
    """
    from cli.keys import read_key
    from wire.http import CardOptions, Endpoint

    given: dict[str, Any] = vars(arguments)
    return Endpoint(
        given[prefix + "url"],
        model=given[prefix + "model"],
        key=key or read_key(given[prefix + "key"] or arguments.key, arguments.key_file),
        options=from_fields(CardOptions, arguments, prefix),
        client=client,
    )


def reach_completions(arguments: argparse.Namespace) -> CompletionEndpoint:
    """Opens the language model that the flags of :func:`add_completions` select.

    Raises:
        BadInput: The URL or the key cannot be used, or the server has several models and none is named.
        Refused: The server refuses the key.
        Unreachable: The server did not answer.
    """
    from cli.keys import read_key
    from wire.openai import CompletionEndpoint

    key = read_key(arguments.key, arguments.key_file)
    return CompletionEndpoint(arguments.url, model=arguments.model, key=key, chat=arguments.chat)
