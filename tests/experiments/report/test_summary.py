"""Which runs the summary calls the best."""

from experiments.report.summary import _membership


def spying(attack, others, found):
    return {
        "attack": attack,
        "policy": "open",
        "others": others,
        "auc": 0.55,
        "auc_error": 0.01,
        "tpr_at": {"0.001": [found, 0.0, 1.0]},
    }


def test_few_non_members_show_nothing_at_a_thousandth():
    told = _membership([spying("lira", 5000, 0.02), spying("rmia", 13, 0.3)])
    assert "the best (lira at open) finds 2.00 % of the members" in told
    assert "rmia at open) finds 30.00 %" in _membership([spying("lira", 9, 0.02), spying("rmia", 13, 0.3)])
