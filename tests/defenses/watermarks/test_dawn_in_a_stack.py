"""DAWN among other layers, and settings that are refused."""

from dataclasses import dataclass

import pytest
from dawn_parts import CARD, SECRET, X, dawn, opened_store, victim

from defenses import (
    Dawn,
    GaussianNoise,
    LabelFlips,
    LabelOnly,
    Monitored,
    Prada,
    Quota,
    Reaction,
    Redundant,
    Rounding,
    Stage,
    StandingAlarm,
    Temperature,
    TopK,
    check_order,
    disclosed,
)
from defenses.watermarks.ledger.commitment import log_of
from wire import BadInput, Query


@dataclass(frozen=True)
class Unlisted:
    """A defence that nobody has listed, and that changes labels."""

    stage = Stage.NOISE


@pytest.mark.parametrize(
    ("defense", "found"),
    [
        (LabelOnly(), "the layers inside disclose labels only"),
        (TopK(2), "must stand inside top_k"),
        (Rounding(2), "rounding must stand outside"),
    ],
    ids=str,
)
def test_it_stands_inside_what_withholds(defense, found):
    with pytest.raises(BadInput, match=found) as refused:
        disclosed([Dawn(0.2), defense], CARD)
    assert not isinstance(refused.value, Redundant)


@pytest.mark.parametrize(
    "inside",
    [GaussianNoise(0.01), Temperature(2.0), LabelFlips(0.1), Dawn(0.2), TopK(2), Quota(1), Unlisted()],
    ids=str,
)
def test_nothing_that_changes_an_answer_stands_inside(inside):
    with pytest.raises(BadInput, match="dawn: it stands inside it; marks are counted against the victim's own"):
        check_order([("dawn", Dawn(0.2)), ("it", inside)])
    check_order([("it", inside), ("dawn", Dawn(0.2))] if not isinstance(inside, Dawn) else [("dawn", inside)])
    check_order([("dawn", Dawn(0.2)), ("prada", Monitored(Prada(0.9), "prada"))])


async def test_a_deceived_account_is_not_marked():
    async with opened_store() as store:
        reaction = Reaction(5, SECRET, victim, marks=[dawn(store)])
        deceived = [StandingAlarm("bad", "m", "prada", 0.0, 1, 0.5, "deceive")]
        for account, alarms in (("bad", deceived), ("good", [])):
            await reaction.around(alarms)(Query(account, X, 0.0))
        bad, good = [len((await store.read(log_of("m", account))).entries) for account in ("bad", "good")]
    assert bad == 0 < good


@pytest.mark.parametrize("rate", [0, -0.1, 0.6, float("nan")])
def test_rates_without_sense_are_refused(rate):
    with pytest.raises(BadInput, match="dawn: rate must lie between"):
        Dawn(rate)
