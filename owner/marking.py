"""Runs ``mlaas-range prove mark-backdoor``, ``mark-radioactive`` and ``mark-honeytrace``: makes the marks."""

from __future__ import annotations

import argparse
import secrets
from dataclasses import replace

from cli.flags import from_fields
from defenses.training.backdoor import Backdoor
from defenses.training.radioactive import Radioactive
from defenses.watermarks.honeytrace import triggers
from owner.commitment import commit
from owner.log.head import Head
from owner.log.log import Log, head_name
from owner.radioactive_key import RadioactiveKey
from owner.trigger_key import KEY, TriggerKey
from wire import BadInput
from zoo import folder
from zoo.data.pool import Pool

ROWS, SECRET = "rows.npz", "secret.txt"


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
            f"commitment: {key.entry.root}",
            *([] if arguments.log is None else [_committed(key, Log.open(arguments.log, create=True))]),
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
    key = RadioactiveKey.new(mark, vanilla, marker, secret)
    marked = key.marked(vanilla, marker)
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
            f"commitment: {key.entry.root}",
            *([] if arguments.log is None else [_committed(key, Log.open(arguments.log, create=True))]),
        ]
    )


def honeytrace(arguments: argparse.Namespace) -> str:
    """Makes the triggers of the layer ``honeytrace``; returns what to do next."""
    out = arguments.out
    if (out / SECRET).exists():
        raise BadInput(f"{out} has a secret already; copies of a model that was marked by it need it")
    private, secret = Pool.load(arguments.private), secrets.token_hex(32)
    made = triggers(private, secret, arguments.count)
    out.mkdir(parents=True, exist_ok=True)
    (out / SECRET).write_text(f"{secret}\n")
    made.save(out / "triggers.npz")
    return "\n".join(
        [
            f"{out}: {len(made)} triggers; keep them secret",
            f'next: {{ type = "honeytrace", triggers = "{out / "triggers.npz"}", pool = "{arguments.private}" }} '
            "among the defences of the model",
            f"publish SHA-256 of {out / 'triggers.npz'} before there is a suspect: {made.fingerprint}",
        ]
    )


def _committed(key: TriggerKey | RadioactiveKey, log: Log) -> str:
    log = commit(log, key.entry)
    head: Head = log.heads[log.entries.index(key.entry.line)]
    return f"publish {log.folder / head_name(head.size)} before there is a suspect; its key is {head.key}"
