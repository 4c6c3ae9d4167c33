"""The least that a server in one Python process can do: uvloop, raw float32 in, labels and probabilities raw out.

It is no server: it trusts every byte, and has no keys, no bill, no checks, no errors and no routes. Like ours, it
shares a forward pass among the requests of one turn of the loop. What it reaches beside Mosec, whose HTTP server
is in Rust, is the ceiling of a server like ours on the same machine.
"""

import asyncio
import re
import sys
from pathlib import Path

import numpy as np
import uvloop

from benchmarks.serving.session import SHAPE, load

folder, port = sys.argv[1:3]
predict = load(Path(folder))
waiting: list[tuple["Connection", np.ndarray]] = []
BULK = 32  # rows from which on a pass goes to a thread


class Connection(asyncio.Protocol):
    """One connection; a request begins when the one before has been answered."""

    def connection_made(self, transport):
        """Keeps the transport."""
        self.transport, self.buffer, self.head, self.size = transport, b"", b"", 0

    def data_received(self, data):
        """Takes a request as soon as it is whole; a head that comes again is not parsed again."""
        self.buffer += data
        if not self.buffer.startswith(self.head or b"\0"):
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self.head = self.buffer[: end + 4]
            self.size = int(re.search(rb"(?i)content-length: (\d+)", self.head)[1])
        if len(self.buffer) == len(self.head) + self.size:
            rows = np.frombuffer(self.buffer, np.float32, offset=len(self.head)).reshape(-1, *SHAPE)
            self.buffer = b""
            if not waiting:
                loop.call_soon(turn)
            waiting.append((self, rows))

    def answer(self, probs):
        """Writes an answer."""
        body = probs.argmax(1).tobytes() + probs.tobytes()
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def turn():
    """Answers what has arrived; passes of many rows run beside the loop."""
    asked = waiting.copy()
    waiting.clear()
    if sum(len(rows) for _, rows in asked) < BULK:
        told(asked, predict(np.concatenate([rows for _, rows in asked])))
        return
    for each in [[one] for one in asked] if len(asked[0][1]) >= BULK else [asked]:
        rows = np.concatenate([rows for _, rows in each])
        passed = loop.run_in_executor(None, predict, rows)
        passed.add_done_callback(lambda done, each=each: told(each, done.result()))


def told(asked, probs):
    """Hands each its part."""
    begin = 0
    for connection, rows in asked:
        connection.answer(probs[begin : begin + len(rows)])
        begin += len(rows)


loop = uvloop.new_event_loop()
loop.run_until_complete(loop.create_server(Connection, "127.0.0.1", int(port)))
loop.run_forever()
