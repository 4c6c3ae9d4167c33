"""Served victims that are watched."""

import asyncio
import contextlib

import numpy as np

from server.control.log import ControlLog
from wire import Refused

WATCHED = """
state = "state"
STORE
[plans.free]
[plans.admin]
admin = true
[[victims]]
name = "watched"
folder = "net"
engine = "torch"
max_rows = 64
defenses = [{ type = "prada", delta = 0.95, reaction = "REACTION" OPTIONS }]
"""


def watched(config, reaction="refuse", options="", store=None):
    text = WATCHED.replace("REACTION", reaction).replace("OPTIONS", options)
    config.write_text(text.replace("STORE", f'store = "{store}"' if store else ""))
    return config


def ask(endpoint, x, size=50):
    """Asks until it is refused; returns the answers' labels and the refusal."""
    labels = []
    for at in range(0, len(x), size):
        try:
            labels.append(endpoint(x[at : at + size]).labels)
        except Refused as refused:
            return np.concatenate(labels), refused
    return np.concatenate(labels), None


def server_alarms(server):
    async def read():
        control = ControlLog(server.store, server.clock)
        await control.catch_up()
        return control.alarms.all()

    return asyncio.run(read())


def raised(server, thief):
    """Asks as a thief until an alarm is raised; returns the thief's endpoint."""
    bad, at = server.endpoint("watched", "free", "bad"), 0
    while not server_alarms(server):
        with contextlib.suppress(Refused):  # the request that raises it, if the reaction is slow
            bad(thief[at : at + 50])
        at += 50
    return bad
