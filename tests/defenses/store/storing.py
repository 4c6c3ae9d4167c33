"""What the tests of store share."""

import asyncio

from defenses.store import Charge, Counter, open_store


def using(url, script):
    """Runs a script on a store, in an event loop of its own."""

    async def play():
        store = open_store(url)
        try:
            return await script(store)
        finally:
            await store.close()

    return asyncio.run(play())


def counted(amount=1, account="a", **fields):
    return Charge(account, (Counter("n", amount),), **fields)
