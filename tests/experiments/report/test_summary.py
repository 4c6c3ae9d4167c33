"""Which runs the summary calls the best."""

from experiments.report.summary import _membership


def spying(attack, others, found, *, auc=0.55, error=0.01):
    return {
        "attack": attack,
        "policy": "open",
        "others": others,
        "auc": auc,
        "auc_error": error,
        "tpr_at": {"0.001": [found, found / 2, 2 * found]},
    }


def test_few_non_members_show_nothing_at_a_thousandth():
    told = _membership([spying("lira", 5000, 0.02), spying("rmia", 13, 0.3)])
    assert "the best (lira at open) finds 2.00 % (1.00 % to 4.00 %) of the members" in told
    assert "rmia at open) finds 30.00 %" in _membership([spying("lira", 9, 0.02), spying("rmia", 13, 0.3)])


def test_a_great_area_over_few_candidates_is_not_the_best():
    told = _membership([spying("lira", 5000, 0.02, auc=0.58), spying("blind-walk", 8, 0.02, auc=0.75, error=0.14)])
    assert "is lira at open: AUC 0.580" in told
