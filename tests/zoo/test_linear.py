import pytest
import torch

from zoo.linear import linear


@pytest.mark.parametrize("d", [13, 64])
@pytest.mark.parametrize("m", [1, 3, 10])
def test_sums_do_not_depend_on_where_rows_lie(d, m):
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(8, d, generator=generator), torch.randn(m, d, generator=generator)
    expected = linear(x, weight)
    torch.testing.assert_close(expected, x @ weight.T)
    for offset in (1, 2, 3):
        moved = torch.empty(8 * d + offset)[offset:].view(8, d).copy_(x)
        assert torch.equal(linear(moved, weight), expected)


@pytest.mark.parametrize(("d", "copied"), [(13, True), (64, False)])
def test_a_weight_is_copied_only_where_it_must_grow(monkeypatch, d, copied):
    seen = []
    monkeypatch.setattr("zoo.linear.functional.linear", lambda x, weight, bias: seen.append(weight))
    weight = torch.zeros(5, d)
    linear(torch.zeros(2, d), weight)
    assert (seen[0] is not weight) == copied and seen[0].shape[1] % 4 == 0
