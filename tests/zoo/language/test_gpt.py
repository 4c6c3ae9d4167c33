"""The decoder: causal, and the same with a cache as without."""

import pytest
import torch

from wire import BadInput
from zoo.language.gpt import Cache, Decoder, Gpt, Past

GPT = Gpt(vocabulary=50, context=12, layers=2, heads=2, width=8)


@pytest.fixture(scope="module")
def decoder():
    torch.manual_seed(0)
    decoder = Decoder(GPT).eval()
    for parameter in decoder.parameters():
        parameter.data *= 10
    return decoder


@torch.inference_mode()
def test_a_token_s_logits_depend_on_those_before_it_alone(decoder):
    tokens = torch.arange(12)[None]
    changed = tokens.clone()
    changed[0, 7] = 40
    one, other = decoder(tokens), decoder(changed)
    assert torch.allclose(one[:, :7], other[:, :7], atol=1e-5)
    assert not torch.allclose(one[:, 7:], other[:, 7:], atol=1e-2)


@torch.inference_mode()
def test_a_cache_changes_nothing(decoder):
    torch.manual_seed(1)
    texts = torch.randint(50, (3, 12))
    whole, cache, slots = decoder(texts), Cache(GPT, 5), torch.tensor([4, 0, 2])
    begun = torch.arange(5).expand(3, 5)
    told = [decoder(texts[:, :5], Past(cache, slots, begun))]
    for at in range(5, 12):
        told.append(decoder(texts[:, at : at + 1], Past(cache, slots, torch.full((3, 1), at))))
    assert torch.allclose(torch.cat(told, 1), whole, atol=1e-4)


@torch.inference_mode()
def test_texts_of_other_lengths_share_a_pass_and_a_slot_is_used_again(decoder):
    torch.manual_seed(2)
    cache, slots = Cache(GPT, 2), torch.tensor([0, 1])
    decoder(torch.randint(50, (2, 12)), Past(cache, slots, torch.arange(12).expand(2, 12)))  # former texts
    texts = torch.randint(50, (2, 8))
    decoder(texts[:, :6], Past(cache, slots, torch.arange(6).expand(2, 6)))  # of the first, three are padding
    positions = torch.tensor([[3], [6]])
    told = decoder(texts.gather(1, positions), Past(cache, slots, positions))
    assert torch.allclose(told[0, 0], decoder(texts[:1, :4])[0, 3], atol=1e-4)
    assert torch.allclose(told[1, 0], decoder(texts[1:, :7])[0, 6], atol=1e-4)


@pytest.mark.parametrize("fields", [{"width": 7}, {"layers": 0}, {"vocabulary": 10**9}])
def test_impossible_sizes_are_refused(fields):
    with pytest.raises(BadInput, match=r"sizes|weights"):
        Gpt(**{"heads": 2, "width": 8, **fields})
