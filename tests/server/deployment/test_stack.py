"""From a victim and its defences to what the accounts of a plan meet."""

import asyncio

import pytest
from parts import SHAPE, Local

from defenses import DEFENSES, Stage
from wire import Query
from zoo.data import Pool


@pytest.mark.parametrize(("kind", "cls"), DEFENSES.items())
def test_every_defence_has_a_stage(kind, cls):
    assert isinstance(cls.stage, Stage)
    if cls.stage is not Stage.ADMISSION:
        assert callable(cls.bind) and callable(cls.disclose)


WATCHED = """
[plans.other]
price_per_row = "0.1"

[[victims]]
name = "watched"
folder = "net"
max_rows = 64
defenses = [
    { type = "quota", rows = 1000 },
    { type = "rounding", digits = 2 },
    { type = "gaussian_noise", sigma = 0.05 },
    { type = "sybils", reference = "reference.npz", ratio = 0.5 },
]
"""


def test_plans_share_one_monitor_with_one_reference_and_one_state(config, rows):
    """Four plans meet the same victim; each row is folded once, and the reference is held once."""
    Pool(rows[:200].reshape(-1, *SHAPE)).save(config.parent / "reference.npz")
    config.write_text(config.read_text() + WATCHED)
    server = Local(config)
    service = server.app.service

    async def script():
        await service.begin()
        deployed = [service.of_plan(plan)["watched"] for plan in service.settings.plans]
        for number, each in enumerate(deployed):
            await each.reaction.around(())(Query(f"account {number}", rows[200 + 10 * number :][:10], 0.0))
        await server.store.close()
        return deployed

    deployed = asyncio.run(script())
    assert len(deployed) == 4
    assert len({id(bound.layer) for each in deployed for bound in each.layers}) == 3
    (monitor,) = {each.layers[-1].layer for each in deployed}
    assert monitor.account("anybody").state.rows == 40
