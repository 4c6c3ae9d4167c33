"""How many marks survive the noise outside a watermark."""

import numpy as np
import pytest
from scipy import stats
from sites import ask, site

from defenses import (
    Dawn,
    GaussianNoise,
    LabelFlips,
    LabelOnly,
    LaplaceNoise,
    ReverseSigmoid,
    Rounding,
    Temperature,
    TopK,
    disclosed,
)
from defenses.watermarks.survival import check_survival, lost
from wire import BadInput, Card

OUTSIDE = {
    "label_only": (LabelOnly(), "keeps"),
    "top_k": (TopK(1), "keeps"),
    "rounding": (Rounding(0), "keeps"),
    "temperature": (Temperature(9.0), "keeps"),
    "little noise": (GaussianNoise(0.02), "warns"),
    "much noise": (GaussianNoise(2.0), "erases"),
    "laplace": (LaplaceNoise(0.02), "warns"),
    "much laplace": (LaplaceNoise(1.0), "erases"),
    "sigmoid": (ReverseSigmoid(0.1, 0.2), "keeps"),
    "much sigmoid": (ReverseSigmoid(1.9, 9.0), "erases"),
    "flips": (LabelFlips(0.05), "warns"),
    "many flips": (LabelFlips(0.2), "erases"),
}


@pytest.mark.parametrize("name", OUTSIDE)
async def test_noise_keeps_the_marks_or_is_found_at_start(name, caplog):
    defense, verdict = OUTSIDE[name]
    layer = defense.bind(site(secret=b"n"))
    assert disclosed([defense, Dawn(0.2)], Card("m", (4,), 5))
    if verdict == "erases":
        with pytest.raises(BadInput, match="of the marks, even if the victim is certain"):
            await check_survival("m", [layer], 5)
        return
    await check_survival("m", [layer], 5)
    rng = np.random.default_rng(0)
    x, probs = rng.random((400, 4), np.float32), rng.dirichlet(np.full(5, 0.3), 400).astype(np.float32)
    changed = ((await ask([layer], x, probs)).labels != probs.argmax(axis=1)).mean()
    assert ("outside dawn changes" in caplog.text) == (verdict == "warns") == (changed > 0)
    assert changed < 0.15


async def test_the_share_of_lost_marks_is_measured():
    async def share(defense, confidence):
        return await lost([defense.bind(site(secret=b"n"))], 10, confidence)

    sigma = 0.3
    flips = stats.norm.sf(1 / (sigma * np.sqrt(2)))  # one other class overtakes a certain label
    assert 3 * flips < await share(GaussianNoise(sigma), 1.0) < 10 * flips
    assert await share(LabelFlips(0.2), 1.0) == pytest.approx(0.2, abs=0.04)
    assert await share(GaussianNoise(0.01), 0.5) == pytest.approx(0.5, abs=0.05)
