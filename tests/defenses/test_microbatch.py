import asyncio

import pytest

from defenses.microbatch import MicroBatch


def play(script):
    async def run():
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        return await asyncio.wait_for(script(), 5)

    return asyncio.run(run())


@pytest.mark.parametrize("awaited", [False, True])
def test_a_run_of_too_few_results_fails_its_calls_and_no_others(awaited):
    def run(items):
        return [item for item in items if item >= 0]

    async def later(items):
        return run(items)

    async def script():
        calls = MicroBatch(later if awaited else run)
        failed = await asyncio.gather(calls(1), calls(-1), return_exceptions=True)
        return [str(error) for error in failed], await calls(2)

    assert play(script) == (["1 results for 2 calls"] * 2, 2)


def test_who_watches_runs_cannot_end_them():
    def broken(seconds, calls):
        raise RuntimeError("the meter is broken")

    async def script():
        calls = MicroBatch(list, observe=broken)
        return [await calls(i) for i in range(3)]

    assert play(script) == [0, 1, 2]


def test_when_the_loop_ends_what_was_begun_is_still_undone():
    done = []

    async def run(items):
        if "long" in items:
            await asyncio.sleep(60)
        done.extend(items)
        return items

    async def ask(calls, begun):
        try:
            await asyncio.sleep(60)
        finally:
            begun.cancel()  # as the end of the loop does, in no order
            await asyncio.wait_for(calls("refund"), 5)

    async def script():
        calls = MicroBatch(run)
        long = asyncio.create_task(calls("long"))
        await asyncio.sleep(0.01)
        asking = asyncio.create_task(ask(calls, *calls._tasks))
        await asyncio.sleep(0.01)
        asking.cancel()
        return await asyncio.gather(asking, long, return_exceptions=True)

    assert all(isinstance(error, asyncio.CancelledError) for error in play(script)) and done == ["refund"]
