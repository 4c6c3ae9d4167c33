"""Runs ``mlaas-range prove mark-backdoor`` and ``mark-radioactive``: makes marks, before the victim is trained."""

from __future__ import annotations

import argparse
import secrets
from dataclasses import replace

from cli.flags import from_fields
from defenses.training.backdoor import Backdoor
from defenses.training.radioactive import Radioactive
from owner.commitment import commit
from owner.log.head import Head
from owner.log.log import Log, head_name
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
    if (out / SECRET).exists():
        raise BadInput(f"{out} has a secret already; a model that was marked with it cannot be proven without it")
    private, secret = Pool.load(arguments.private), secrets.token_hex(32)
    chosen = mark.chosen(private, secret)
    vanilla = private.take(chosen)
    marked = mark.marked(vanilla, folder.load(arguments.marker).network(), secret)
    x = private.x.copy()
    x[chosen] = marked.x
    out.mkdir(parents=True, exist_ok=True)
    (out / SECRET).write_text(f"{secret}\n")
    vanilla.save(out / "vanilla.npz")
    marked.save(out / "marked.npz")
    replace(private, x=x).save(out / ROWS)
    return (
        f"{out}: {len(chosen)} of {len(private)} rows are marked; keep it secret\n"
        f"next: mlaas-range train --rows {out / ROWS} --out FOLDER\n"
        f"publish SHA-256 of {out / 'marked.npz'} before there is a suspect: {marked.fingerprint}"
    )


def _committed(key: TriggerKey, log: Log) -> str:
    log = commit(log, key.entry)
    head: Head = log.heads[log.entries.index(key.entry.line)]
    return f"publish {log.folder / head_name(head.size)} before there is a suspect; its key is {head.key}"
