"""From a victim and its defences to what the accounts of a plan meet."""

import asyncio

import pytest
from parts import SHAPE, Local

from defenses import DEFENSES, Stage, check_order
from wire import BadInput
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
    asyncio.run(service.begin())
    deployed = [service.of_plan(plan)["watched"] for plan in service.settings.plans]
    assert len(deployed) == 4
    monitors = {id(each.layers[-1].layer) for each in deployed}
    assert len(monitors) == 1
    assert len({id(bound.layer) for each in deployed for bound in each.layers}) == 3
    asyncio.run(server.store.close())


class Unlisted:
    """A layer that changes labels, of which no other file knows."""

    stage = Stage.NOISE


def test_a_new_layer_that_changes_labels_is_refused_inside_a_watermark():
    dawn = DEFENSES["dawn"](0.1)
    with pytest.raises(BadInput, match="dawn: unlisted stands inside it; marks are counted"):
        check_order([("dawn", dawn), ("unlisted", Unlisted())])
    check_order([("unlisted", Unlisted()), ("dawn", dawn)])
