import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from server.deployment.batcher import INLINE, Batcher
from server.deployment.engine import Engine

WIDTH = 2  # passes at a time


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


in_both = pytest.mark.parametrize("beside", [False, True], ids=["inline", "thread"])


def play(script, beside=True, rows=64, observe=None, model=None, known=True):
    """Runs a script with a batcher, which knows that passes are short unless they all go beside the loop."""

    async def run():
        with ThreadPoolExecutor(WIDTH) as executor:
            predict = model or Model()
            batcher = Batcher(Engine(predict, "a test", rows, beside, WIDTH), executor, observe)
            if known and not beside:
                batcher._costs = [0.0] * len(batcher._costs)
            return predict, await script(batcher)

    return asyncio.run(run())


def numbers(start, n):
    return np.arange(start, start + n, dtype=np.float32)[:, None]


@in_both
def test_requests_of_one_turn_share_a_pass_and_each_gets_its_own_rows(beside):
    sizes = [3, 1, 5, 2]
    starts = np.cumsum([0, *sizes[:-1]])

    async def script(batcher):
        batches = [numbers(a, n) for a, n in zip(starts, sizes, strict=True)]
        return batches, await asyncio.gather(*[batcher(x) for x in batches])

    model, (batches, answers) = play(script, beside)
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


class Costly(Model):
    """Spends processor time for each row."""

    def __call__(self, parts):
        answer = super().__call__(parts)
        until = time.thread_time() + len(answer) * INLINE / 8
        while time.thread_time() < until:
            pass
        return answer


def test_short_passes_run_in_the_event_loop_and_long_ones_in_a_thread_as_earlier_ones_took():
    async def script(batcher):
        where = {}
        for n in (1, 32):
            for _ in range(20):
                batcher._engine.predict.threads.clear()
                await batcher(numbers(0, n))
                where.setdefault(n, []).extend(batcher._engine.predict.threads)
        return where

    _, where = play(script, beside=False, model=Costly(), known=False)
    here = threading.current_thread()
    assert where[1][0] is not here and where[1][-1] is here  # once it is known to be short
    assert here not in where[32]


def test_on_a_gpu_even_short_passes_run_in_a_thread():
    async def script(batcher):
        for _ in range(5):
            await batcher(numbers(0, 1))

    model, _ = play(script, beside=True)
    assert threading.current_thread() not in model.threads


class Held(Model):
    """Holds each pass until it is let go, and counts those in progress."""

    def __init__(self):
        super().__init__()
        self.let_go, self.going, self.most = threading.Semaphore(0), 0, 0
        self.lock = threading.Lock()

    def __call__(self, parts):
        with self.lock:
            self.going += 1
            self.most = max(self.most, self.going)
        assert self.let_go.acquire(timeout=20)
        with self.lock:
            self.going -= 1
        return super().__call__(parts)


async def until(true):
    for _ in range(2000):
        if true():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it does not come true")


def test_a_full_pass_waits_for_one_other_at_most_and_one_that_is_not_full_waits_for_more_rows():
    async def script(batcher):
        model = batcher._engine.predict
        asked = [asyncio.create_task(batcher(numbers(0, n))) for n in (8, 8, 8, 8)]
        await until(lambda: model.going == WIDTH)
        model.let_go.release(2)
        await until(lambda: len(model.passes) == 2 and model.going == WIDTH)
        model.let_go.release(1)
        await until(lambda: model.going == 1)
        asked.append(asyncio.create_task(batcher(numbers(100, 3))))
        await asyncio.sleep(0.05)
        assert model.going == 1  # three rows are no reason for a pass of their own
        asked.append(asyncio.create_task(batcher(numbers(200, 4))))
        await asyncio.sleep(0.05)
        assert model.going == 1
        model.let_go.release(10)
        return await asyncio.gather(*asked)

    model, answers = play(script, rows=8, model=Held())
    assert model.passes == [8, 8, 8, 8, 7] and model.most == WIDTH
    for start, answer in zip((0, 0, 0, 0, 100, 200), answers, strict=True):
        np.testing.assert_array_equal(answer[:, 0], numbers(start, len(answer))[:, 0])


def test_rows_that_fill_a_pass_together_need_not_wait_for_the_one_in_progress():
    async def script(batcher):
        model = batcher._engine.predict
        asked = [asyncio.create_task(batcher(numbers(0, 1)))]
        await until(lambda: model.going == 1)
        asked += [asyncio.create_task(batcher(numbers(n, 1))) for n in range(8)]
        await until(lambda: model.going == 2)
        model.let_go.release(2)
        return await asyncio.gather(*asked)

    model, answers = play(script, rows=8, model=Held())
    assert sorted(model.passes) == [1, 8] and [answer[0, 0] for answer in answers[1:]] == list(range(8))


def test_a_slow_model_does_not_hold_up_a_fast_one():
    async def run():
        slow, fast = Held(), Model()
        with ThreadPoolExecutor(WIDTH) as one, ThreadPoolExecutor(WIDTH) as other:
            held = Batcher(Engine(slow, "a test", 8, True, WIDTH), one)
            asked = [asyncio.create_task(held(numbers(0, 8))) for _ in range(4)]
            await until(lambda: slow.going == WIDTH)
            answer = await asyncio.wait_for(
                Batcher(Engine(fast, "a test", 8, True, WIDTH), other)(numbers(0, 3)), 20
            )
            assert slow.passes == [] and len(answer) == 3
            slow.let_go.release(4)
            await asyncio.gather(*asked)

    asyncio.run(run())


def test_a_lone_row_waits_for_no_timer():
    async def script(batcher):
        asyncio.get_running_loop().call_at = None  # whoever sets a timer fails
        return await batcher(numbers(0, 1))

    assert len(play(script, beside=False)[1]) == 1


@in_both
def test_no_pass_has_more_rows_than_the_engine_takes(beside):
    async def script(batcher):
        return await asyncio.gather(*[batcher(numbers(n, n)) for n in (3, 4, 20, 2)])

    model, answers = play(script, beside, rows=8)
    assert model.passes == [7, 2, 8, 8, 4]  # 3 and 4; 2, which does not wait for all of 20; 20 in three passes
    for n, answer in zip((3, 4, 20, 2), answers, strict=True):
        np.testing.assert_array_equal(answer[:, :1], numbers(n, n))


@in_both
def test_who_was_answered_goes_on_before_the_next_pass_begins(beside):
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

    _, (seen, passes) = play(script, beside, rows=8)
    assert seen == [8] and len(passes) <= 2  # at most the second pass has begun, in its thread


@in_both
def test_a_failed_pass_fails_its_requests_and_no_others(beside):
    async def script(batcher):
        asked = [batcher(np.full((4, 1), sign, np.float32)) for sign in (1, 1, -1, 1, 1)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        return [isinstance(answer, ValueError) for answer in answers], await batcher(numbers(0, 2))

    _, (failed, after) = play(script, beside, rows=8)
    assert failed == [False, False, True, True, False] and after.shape == (2, 2)


@in_both
def test_a_long_request_fails_as_one(beside):
    async def script(batcher):
        x = numbers(0, 30)
        x[20] = -1
        with pytest.raises(ValueError, match="negative"):
            await batcher(x)
        return await batcher(numbers(0, 2))

    _, answer = play(script, beside, rows=8)
    assert answer.shape == (2, 2)


@in_both
def test_rows_of_clients_that_left_are_not_computed(beside):
    async def script(batcher):
        leaving = [asyncio.create_task(batcher(numbers(0, n))) for n in (2, 20)]
        staying = asyncio.create_task(batcher(np.full((1, 1), 7, np.float32)))
        await asyncio.sleep(0)
        for task in leaving:
            task.cancel()
        return await staying

    model, answer = play(script, beside, rows=8)
    np.testing.assert_array_equal(answer, [[7, -7]])
    assert model.passes == [1]


@in_both
def test_passes_are_told_of(beside):
    told = []

    async def script(batcher):
        asked = asyncio.gather(batcher(numbers(0, 8)), batcher(numbers(0, 3)))
        await asyncio.sleep(0)
        time.sleep(0.02)  # whoever holds up the event loop makes them wait
        await asked

    model, _ = play(script, beside, rows=8, observe=lambda *pass_: told.append(pass_))
    assert [rows for rows, _, _ in told] == model.passes == [8, 3]
    for _, queue, forward in told:
        assert 0.02 <= queue < 1 and 0 < forward < 0.02
