import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from server.batcher import Batcher


class Model:
    """Answers each row with itself, and notes how many rows each pass had."""

    def __init__(self):
        self.passes = []

    def __call__(self, x):
        self.passes.append(len(x))
        if (x < 0).any():
            raise ValueError("negative")
        return np.stack([x[:, 0], -x[:, 0]], axis=1)


def play(script):
    async def run():
        with ThreadPoolExecutor(1) as executor:
            model = Model()
            return model, await script(Batcher(model, executor))

    return asyncio.run(run())


def test_requests_of_one_turn_share_a_pass_and_each_gets_its_own_rows():
    sizes = [3, 1, 5, 2]
    starts = np.cumsum([0, *sizes])

    async def script(batcher):
        batches = [np.arange(a, a + n, dtype=np.float32)[:, None] for a, n in zip(starts, sizes, strict=False)]
        return batches, await asyncio.gather(*[batcher(x) for x in batches])

    model, (batches, answers) = play(script)
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


def test_a_failed_pass_fails_its_requests_and_no_others():
    async def script(batcher):
        with pytest.raises(ValueError, match="negative"):
            await batcher(np.full((1, 1), -1, np.float32))
        return await batcher(np.ones((2, 1), np.float32))

    _, answer = play(script)
    assert answer.shape == (2, 2)


def test_a_client_that_leaves_disturbs_nobody():
    async def script(batcher):
        leaving = asyncio.create_task(batcher(np.zeros((2, 1), np.float32)))
        staying = asyncio.create_task(batcher(np.full((1, 1), 7, np.float32)))
        await asyncio.sleep(0)
        leaving.cancel()
        return await staying

    _, answer = play(script)
    np.testing.assert_array_equal(answer, [[7, -7]])
