import asyncio

import uvicorn

from server.http.listener import Joined


def test_what_is_written_to_who_is_gone_is_dropped():
    """On the loop that serves: it raises where asyncio's own drops."""
    failed = []

    class Answering(asyncio.Protocol):
        def connection_made(self, transport):
            self.joined = Joined(transport, asyncio.get_running_loop())
            self.joined.write(b"one")
            self.joined.write(b", two")
            self.joined.flush()

        def data_received(self, data):
            self.joined.write(b"kept")
            self.joined.abort()

        def connection_lost(self, error):
            self.joined.flush()
            self.joined.write(b"late")  # at the end of the turn

    async def run():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: failed.append(context))
        server = await loop.create_server(Answering, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        told = await reader.readexactly(8)
        writer.write(b"go")
        told += await reader.read()
        await asyncio.sleep(0.01)
        writer.close()
        server.close()
        return told

    with asyncio.Runner(loop_factory=uvicorn.Config("", log_config=None).get_loop_factory()) as runner:
        assert runner.run(run()) == b"one, two"
    assert not failed
