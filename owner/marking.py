"""Runs ``mlaas-range prove mark-...`` and ``commit-...``: makes the keys of schemes, and commits to them."""

from __future__ import annotations

import argparse
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

from cli.flags import from_fields
from defenses.training.backdoor import Backdoor
from defenses.training.radioactive import Radioactive
from defenses.watermarks.honeytrace import triggers
from owner import PROOFS
from owner.commitment import commit
from owner.honeytrace import HoneytraceTest
from owner.honeytrace import files_of as honeytrace_files
from owner.log.head import Head
from owner.log.log import Log, head_name
from owner.radioactive import key_of, marked_by
from owner.scheme_key import KEY, Rule, SchemeKey
from owner.trigger_key import TriggerKey
from wire import BadInput
from zoo import folder
from zoo.data.pool import Pool

ROWS = "rows.npz"


def backdoor(arguments: argparse.Namespace) -> str:
    """Makes a key and the rows that train a marked model; returns what to do next."""
    out = arguments.out
    if (out / KEY).exists():
        raise BadInput(f"{out} has a key already; a model that was marked with it cannot be proven without it")
    private = Pool.load(arguments.private)
    natural = Pool.load(arguments.natural) if arguments.natural else None
    key = TriggerKey.new(from_fields(Backdoor, arguments), private, natural, secrets.token_hex(32))
    marked = key.rule.mark.marked(private, *key.triggers)
    key.save(out)
    marked.save(out / ROWS)
    return "\n".join(
        [
            f"{out}: {key.rule.mark.triggers} triggers, and {len(marked)} rows to train on; keep it secret",
            f"next: mlaas-range train --rows {out / ROWS} --out FOLDER, with --start FOLDER for a trained model",
            *_committed(key, arguments.log),
        ]
    )


def radioactive(arguments: argparse.Namespace) -> str:
    """Marks training images; returns what to do next."""
    out, mark = arguments.out, from_fields(Radioactive, arguments)
    if (out / KEY).exists():
        raise BadInput(f"{out} has a key already; a model that was marked with it cannot be proven without it")
    private, secret = Pool.load(arguments.private), secrets.token_hex(32)
    chosen, marker = mark.chosen(private, secret), folder.load(arguments.marker).network()
    vanilla = private.take(chosen)
    key = key_of(mark, vanilla, marker, secret)
    marked = marked_by(key, vanilla, marker, key.seed)
    x = private.x.copy()
    x[chosen] = marked.x
    key.save(out)
    vanilla.save(out / "vanilla.npz")
    marked.save(out / "marked.npz")
    replace(private, x=x).save(out / ROWS)
    return "\n".join(
        [
            f"{out}: {len(chosen)} of {len(private)} rows are marked; keep it secret",
            f"next: mlaas-range train --rows {out / ROWS} --out FOLDER",
            *_committed(key, arguments.log),
        ]
    )


def honeytrace(arguments: argparse.Namespace) -> str:
    """Makes the key and the triggers of the layer ``honeytrace``; returns what to do next."""
    out, private = arguments.out, Pool.load(arguments.private)
    test = from_fields(HoneytraceTest, arguments)
    key = _key(out, Rule("honeytrace", test.committed(), honeytrace_files(private)))
    made = triggers(private, key.seed, arguments.count)
    key.save(out)
    made.save(out / "triggers.npz")
    return "\n".join(
        [
            f"{out}: {len(made)} triggers; keep them secret",
            f'next: {{ type = "honeytrace", triggers = "{out / "triggers.npz"}", pool = "{arguments.private}" }} '
            "among the defences of the model",
            *_committed(key, arguments.log),
        ]
    )


def fingerprint(arguments: argparse.Namespace) -> str:
    """Commits to victim, rows and settings of a test that marks nothing; returns what to do next."""
    name = arguments.proof.removeprefix("commit-")
    test: Any = from_fields(PROOFS[name], arguments)
    reference = Pool.load(arguments.reference)
    files = {"reference rows": reference.fingerprint, "victim": folder.fingerprint(folder.load(arguments.victim))}
    key = _key(arguments.out, Rule(name, test.committed(), files))
    key.save(arguments.out)
    next_one = f"next: mlaas-range prove {name} --mark {arguments.out} --log FOLDER, with the same settings"
    return "\n".join([f"{arguments.out}: the key; keep it secret", next_one, *_committed(key, arguments.log)])


def _key(out: Path, rule: Rule) -> SchemeKey:
    if (out / KEY).exists():
        raise BadInput(f"{out} has a key already; nothing that it binds can be proven without it")
    return SchemeKey(secrets.token_hex(32), rule)


def _committed(key: TriggerKey | SchemeKey, folder: Path | None) -> list[str]:
    lines = [f"commitment: {key.entry.root}"]
    if folder is None:
        return lines
    log = commit(Log.open(folder, create=True), key.entry)
    head: Head = log.heads[log.entries.index(key.entry.line)]
    published = log.folder / head_name(head.size)
    return [*lines, f"publish {published} before there is a suspect; its key is {head.key}"]
