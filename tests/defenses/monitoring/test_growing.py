import pytest

from defenses.monitoring.growing import halves


@pytest.mark.parametrize("window", [2, 3, 10, 11, None])
@pytest.mark.parametrize("sizes", [[40], [1] * 40, [7, 0, 13, 20]])
def test_rows_are_split_where_half_a_window_ends(window, sizes):
    rows, ends = 0, []
    for count in sizes:
        at = 0
        for part, is_end in halves(rows, count, window):
            assert part.start == at < part.stop
            at = part.stop
            if is_end:
                ends.append(rows + at)
        assert at == count
        rows += count
    half = 41 if window is None else window // 2
    assert ends == list(range(half, 41, half))
