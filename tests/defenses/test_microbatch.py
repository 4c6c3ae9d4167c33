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


@pytest.mark.parametrize(("even", "runs"), [(False, [[1], [1, 3]]), (True, [[1], [1], [3]])])
def test_a_second_run_begins_beside_one_that_is_no_larger_if_it_may(even, runs):
    begun = []

    async def script():
        ended = asyncio.Event()

        async def run(items):
            begun.append(list(items))
            await ended.wait()
            return items

        calls = MicroBatch(run, size=lambda item: item, most=8, width=2, even=even)
        asked = []
        for item in (1, 1, 3):
            asked.append(asyncio.create_task(calls(item)))
            for _ in range(5):
                await asyncio.sleep(0)
        ended.set()
        return await asyncio.gather(*asked)

    assert play(script) == [1, 1, 3]
    assert begun == runs


def test_a_smaller_run_waits_for_a_larger_one():
    begun = []

    async def script():
        ended = asyncio.Event()

        async def run(items):
            begun.append(list(items))
            await ended.wait()
            return items

        calls = MicroBatch(run, size=lambda item: item, most=8, width=2, even=True)
        first = asyncio.create_task(calls(4))
        for _ in range(5):
            await asyncio.sleep(0)
        rest = [asyncio.create_task(calls(item)) for item in (1, 2)]
        for _ in range(5):
            await asyncio.sleep(0)
        assert begun == [[4]]
        rest.append(asyncio.create_task(calls(1)))
        for _ in range(5):
            await asyncio.sleep(0)
        assert begun == [[4], [1, 2, 1]]
        ended.set()
        return await asyncio.gather(first, *rest)

    assert play(script) == [4, 1, 2, 1]


@pytest.mark.parametrize("late", [False, True])
def test_several_items_of_a_caller_that_is_cancelled_are_undone(late):
    """Whether the run was in progress, or had just ended."""
    ran = []

    async def run(items):
        ran.append(items)
        await asyncio.sleep(0.01)
        return [item * 10 for item in items]

    async def script():
        calls = MicroBatch(run, undo=lambda item, value: -value if item > 0 else None)
        asking = asyncio.create_task(calls.all([1, 2, 3]))
        if late:
            assert await calls.all([4, 5]) == [40, 50]
        else:
            await asyncio.sleep(0.005)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.sleep(0.05)

    play(script)
    assert ran == [[4, 5, 1, 2, 3] if late else [1, 2, 3], [-10, -20, -30]]
