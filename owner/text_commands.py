"""``mlaas-range prove mark-text``, ``radioactive-text`` and ``judge-text``: the mark in a model's texts."""

from __future__ import annotations

import argparse
import dataclasses
import secrets
from contextlib import ExitStack
from pathlib import Path

from cli.command import Parser
from cli.endpoint import add_completions, reach_completions
from cli.flags import add_fields, from_fields
from owner import TEXT_PROOFS
from owner.flag_groups import add_heads, add_log, add_out

KEY = "green.key"


def add_mark(parser: Parser) -> None:
    """Adds the flags of ``mark-text``."""
    _add_vocabulary(parser)
    parser.add_argument(
        "--gamma",
        type=float,
        default=0.25,
        metavar="X",
        help="green share of the vocabulary (default: 0.25)",
    )
    parser.add_argument("--log", type=Path, metavar="FOLDER", help="the owner's log, to commit to the key")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder for the key")


def add_proof(parser: Parser) -> None:
    """Adds the flags of ``radioactive-text``."""
    _add_key(parser)
    add_log(parser)
    add_out(parser, "the evidence (JSON)")
    _add_suspect(parser)


def add_judge(parser: Parser) -> None:
    """Adds the flags of ``judge-text``."""
    parser.add_argument("evidence", type=Path, help="evidence file of radioactive-text")
    add_heads(parser)
    _add_key(parser)
    group = parser.add_argument_group("to tell a thief from a model that was made to carry the mark")
    group.add_argument(
        "--victim", metavar="FOLDER|URL", help="the owner's model; a server of several is named URL#MODEL"
    )
    group.add_argument(
        "--controls",
        nargs="*",
        default=(),
        metavar="FOLDER|URL",
        help="language models of the judge's own that learnt elsewhere and were tuned on marked texts",
    )
    group.add_argument("--others-key", help="API key of the servers of victim and controls (default: --key)")
    group.add_argument("--texts", type=Path, metavar="FILE", help="texts to compare the models by, one a line")
    add_out(parser, "the findings (JSON)")
    _add_suspect(parser)


def _add_vocabulary(parser: Parser) -> None:
    parser.add_argument(
        "--vocabulary", type=Path, required=True, metavar="FILE", help="the marked model's tokenizer.json"
    )


def _add_key(parser: Parser) -> None:
    _add_vocabulary(parser)
    parser.add_argument(
        "--mark", type=Path, required=True, metavar="FOLDER", help="folder made by `mlaas-range prove mark-text`"
    )


def _add_suspect(parser: Parser) -> None:
    add_completions(parser)
    parser.add_argument("--seed", type=int, default=None, metavar="N", help="seed of the texts (default: drawn)")
    add_fields(parser.add_argument_group("the test"), TEXT_PROOFS.outline("radioactive-text"))


def mark(arguments: argparse.Namespace) -> str:
    """Makes the key of a mark, and commits to it; returns what to do next."""
    from owner.commitment import commit
    from owner.log.log import Log, head_name
    from owner.radioactive_text import RadioactiveText, new_key
    from wire import BadInput
    from zoo.language.tokens import read_tokens

    given = arguments
    if (given.out / KEY).exists():
        raise BadInput(f"{given.out} has a key already; texts that were marked with it cannot be told without it")
    RadioactiveText(gamma=given.gamma)  # whether it is a share
    key = new_key(read_tokens(given.vocabulary), given.gamma, secrets.token_hex(32))
    key.save(given.out)
    (given.out / KEY).write_bytes(bytes.fromhex(key.seed))
    lines = [
        f"{given.out}: a key; keep it secret",
        f'next: {{ type = "green_list", key = "{given.out / KEY}", gamma = {given.gamma} }} among the defences',
        f"commitment: {key.entry.root}",
    ]
    if given.log is not None:
        log = commit(Log.open(given.log, create=True), key.entry)
        head = log.heads[log.entries.index(key.entry.line)]
        lines.append(
            f"publish {log.folder / head_name(head.size)} before there is a suspect; its key is {head.key}"
        )
    return "\n".join(lines)


def prove(arguments: argparse.Namespace) -> str:
    """Asks a suspect for texts, and tests them; returns a description of the findings."""
    import numpy as np

    from cli.meter import metered_tokens
    from owner.commitment import receipt
    from owner.evidence import expect_writable
    from owner.log.log import Log
    from owner.radioactive_text import MarkedText, RadioactiveText
    from owner.runner import written
    from owner.scheme_key import SchemeKey
    from zoo.language.tokens import read_tokens

    given, method = arguments, from_fields(RadioactiveText, arguments)
    expect_writable(given.out)
    key, log = SchemeKey.load(given.mark), Log.open(given.log) if given.log else None
    if log is not None:
        key = dataclasses.replace(key, receipt=receipt(log, key.entry, key.opened_rule()))
    method = dataclasses.replace(method, gamma=key.rule.settings.get("gamma", method.gamma))
    held = MarkedText(read_tokens(given.vocabulary), key)
    held.check()
    endpoint = reach_completions(given)
    with metered_tokens(endpoint, patience=given.patience, label="suspect") as oracle:
        found = method.accuse(oracle, held, np.random.default_rng(given.seed))
    found = dataclasses.replace(found, suspect_url=endpoint.base, suspect_money=oracle.money)
    return written(found if log is None else found.signed(log.key), given.out)


def judge(arguments: argparse.Namespace) -> str:
    """Judges the evidence of ``radioactive-text``; returns a description of the findings."""
    import numpy as np

    from cli.keys import read_key
    from cli.meter import metered_tokens
    from owner.evidence import expect_writable, load
    from owner.log.head import read_head
    from owner.radioactive_text import MarkedText, RadioactiveText, TextMark
    from owner.runner import written
    from owner.scheme_key import SchemeKey
    from owner.text_judge import TextCase
    from owner.text_judge import judge as judged
    from owner.text_nearness import read_texts, told_by
    from zoo.language.tokens import read_tokens

    given, method = arguments, from_fields(RadioactiveText, arguments)
    expect_writable(given.out)
    held = MarkedText(read_tokens(given.vocabulary), SchemeKey.load(given.mark))
    evidence, heads = load(given.evidence, TextMark), [read_head(path) for path in given.head]
    texts = read_texts(given.texts) if given.texts else []
    key = read_key(given.others_key or given.key, given.key_file)
    with ExitStack() as stack:
        victim = told_by(given.victim, texts, key) if given.victim and texts else None
        controls = [told_by(place, texts, key) for place in given.controls] if texts else []
        endpoint = reach_completions(given)
        oracle = stack.enter_context(metered_tokens(endpoint, patience=given.patience, label="suspect"))
        found = judged(
            TextCase(evidence, heads, held, given.since),
            method,
            oracle,
            np.random.default_rng(given.seed),
            texts=texts,
            victim=victim,
            controls=controls,
        )
    return written(dataclasses.replace(found, suspect_url=endpoint.base, suspect_money=oracle.money), given.out)
