import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from server.deployment.batcher import INLINE, Batcher
from server.deployment.engine import Engine


class Model:
    """Answers each row with itself, and notes how many rows each pass had and on which thread it ran."""

    def __init__(self):
        self.passes, self.threads = [], set()

    def __call__(self, parts):
        x = np.concatenate(parts)
        self.passes.append(len(x))
        self.threads.add(threading.current_thread())
        if (x < 0).any():
            raise ValueError("negative")
        return np.stack([x[:, 0], -x[:, 0]], axis=1)


in_both = pytest.mark.parametrize("seconds", [INLINE / 2, INLINE * 2], ids=["inline", "thread"])


def play(script, seconds=INLINE * 2, rows=64, observe=None):
    async def run():
        with ThreadPoolExecutor(1) as executor:
            model = Model()
            return model, await script(Batcher(Engine(model, "a test", rows, seconds), executor, observe))

    return asyncio.run(run())


def numbers(start, n):
    return np.arange(start, start + n, dtype=np.float32)[:, None]


@in_both
def test_requests_of_one_turn_share_a_pass_and_each_gets_its_own_rows(seconds):
    sizes = [3, 1, 5, 2]
    starts = np.cumsum([0, *sizes[:-1]])

    async def script(batcher):
        batches = [numbers(a, n) for a, n in zip(starts, sizes, strict=True)]
        return batches, await asyncio.gather(*[batcher(x) for x in batches])

    model, (batches, answers) = play(script, seconds)
    assert model.passes == [11]
    for x, answer in zip(batches, answers, strict=True):
        np.testing.assert_array_equal(answer, np.concatenate([x, -x], axis=1))


def test_requests_during_a_pass_share_the_next():
    async def script(batcher):
        first = asyncio.create_task(batcher(np.zeros((1, 1), np.float32)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # the first pass runs now
        rest = [asyncio.create_task(batcher(np.full((1, 1), i, np.float32))) for i in (1, 2, 3)]
        return [answer[0, 0] for answer in await asyncio.gather(first, *rest)]

    model, answers = play(script)
    assert model.passes == [1, 3] and answers == [0, 1, 2, 3]


@pytest.mark.parametrize(("seconds", "inline"), [(INLINE / 2, True), (INLINE * 2, False)])
def test_short_passes_run_in_the_event_loop_and_long_ones_in_the_thread(seconds, inline):
    model, _ = play(lambda batcher: batcher(numbers(0, 1)), seconds)
    assert (model.threads == {threading.current_thread()}) == inline


def test_a_lone_row_is_answered_without_waiting_for_others():
    async def script(batcher):
        await batcher(numbers(0, 1))
        start = time.perf_counter()
        for _ in range(200):
            await batcher(numbers(0, 1))
        return (time.perf_counter() - start) / 200

    _, seconds = play(script, INLINE / 2)
    assert seconds < 0.001


@in_both
def test_no_pass_has_more_rows_than_the_engine_takes(seconds):
    async def script(batcher):
        return await asyncio.gather(*[batcher(numbers(n, n)) for n in (3, 4, 20, 2)])

    model, answers = play(script, seconds, rows=8)
    assert model.passes == [7, 2, 8, 8, 4]  # 3 and 4; 2, which does not wait for all of 20; 20 in three passes
    for n, answer in zip((3, 4, 20, 2), answers, strict=True):
        np.testing.assert_array_equal(answer[:, :1], numbers(n, n))


@in_both
def test_who_was_answered_goes_on_before_the_next_pass_begins(seconds):
    async def script(batcher):
        seen = []

        async def ask(n):
            await batcher(numbers(0, n))
            seen.append(n)

        asking = [asyncio.create_task(ask(n)) for n in (8, 7, 6)]
        while not seen:
            await asyncio.sleep(0)
        asked = list(seen), list(model_of(batcher).passes)
        await asyncio.gather(*asking)
        return asked

    def model_of(batcher):
        return batcher._engine.predict

    _, (seen, passes) = play(script, seconds, rows=8)
    assert seen == [8] and len(passes) <= 2  # at most the second pass has begun, in its thread


@in_both
def test_a_failed_pass_fails_its_requests_and_no_others(seconds):
    async def script(batcher):
        asked = [batcher(np.full((4, 1), sign, np.float32)) for sign in (1, 1, -1, 1, 1)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        return [isinstance(answer, ValueError) for answer in answers], await batcher(numbers(0, 2))

    _, (failed, after) = play(script, seconds, rows=8)
    assert failed == [False, False, True, True, False] and after.shape == (2, 2)


@in_both
def test_a_long_request_fails_as_one(seconds):
    async def script(batcher):
        x = numbers(0, 30)
        x[20] = -1
        with pytest.raises(ValueError, match="negative"):
            await batcher(x)
        return await batcher(numbers(0, 2))

    _, answer = play(script, seconds, rows=8)
    assert answer.shape == (2, 2)


@in_both
def test_rows_of_clients_that_left_are_not_computed(seconds):
    async def script(batcher):
        leaving = [asyncio.create_task(batcher(numbers(0, n))) for n in (2, 20)]
        staying = asyncio.create_task(batcher(np.full((1, 1), 7, np.float32)))
        await asyncio.sleep(0)
        for task in leaving:
            task.cancel()
        return await staying

    model, answer = play(script, seconds, rows=8)
    np.testing.assert_array_equal(answer, [[7, -7]])
    assert model.passes == [1]


@in_both
def test_passes_are_told_of(seconds):
    told = []

    async def script(batcher):
        asked = asyncio.gather(batcher(numbers(0, 8)), batcher(numbers(0, 3)))
        await asyncio.sleep(0)
        time.sleep(0.02)  # whoever holds up the event loop makes them wait
        await asked

    model, _ = play(script, seconds, rows=8, observe=lambda *pass_: told.append(pass_))
    assert [rows for rows, _, _ in told] == model.passes == [8, 3]
    for _, queue, forward in told:
        assert 0.02 <= queue < 1 and 0 < forward < 0.02
