import json

import numpy as np
import pytest

from experiments.studies.ownership import Accusations, table
from wire import BadInput

SMALL = Accusations(
    dataset="digits",
    family="softmax",
    models=5,
    thefts=1,
    independents=4,
    controls=2,
    epochs=2,
    few=50,
    kinds=(
        *("itself", "fine-tuned", "pruned", "labels", "labels, few", "distilled", "weight noise"),
        *("averaged", "adversarial", "20 % at random"),
    ),
)


def test_every_suspect_is_compared_with_every_model(tmp_path):
    out = tmp_path / "results.json"
    results = SMALL.run(3, None, tmp_path / "cache", out)
    assert json.loads(out.read_text()) == json.loads(json.dumps(results))
    names = [one["name"] for one in results["suspects"]]
    families = ("softmax, control", "mlp, control", "softmax, control", "softmax, pool")
    assert names[:4] == [f"independent: {name}" for name in families]
    assert names.count("itself") == 5 and names.count("labels") == 1 and len(names) == 4 + 5 + 9
    for one in results["suspects"]:
        assert len(one["similarities"]["all"]) == 5
        assert ("others" in one["similarities"]) is (one["victim"] is not None)
    for one in results["suspects"][4:9]:
        assert np.argmax(one["similarities"]["all"]) == one["victim"] and one["agreement"][0] == 1
    text = table(results)
    assert "independent models, false accusations" in text and "worst victim" in text
    (row,) = [line for line in text.splitlines() if line.startswith("itself")]
    assert "5/5" in row
    again = SMALL.run(3, None, tmp_path / "cache", None)
    assert again["suspects"] == results["suspects"]


def test_foreign_images_of_another_shape_are_refused(tmp_path):
    with pytest.raises(BadInput, match="mnist_digits has rows of another shape than digits"):
        Accusations(dataset="digits", family="softmax").run(3, None, tmp_path / "cache", None)
