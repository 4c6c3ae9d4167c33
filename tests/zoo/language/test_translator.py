"""Translators: they learn pairs, are saved and read, and write in a batch as they do alone."""

import numpy as np
import pytest
import torch

from tests.tiny_language import SMALL_PAIR, pairs, sources, translation, translator
from wire import BadInput
from zoo.data import Missing, load
from zoo.language.encoder_decoder import EncoderDecoder, padded
from zoo.language.generation import Batch, likeliest, text_of
from zoo.language.gpt import Cache, Past
from zoo.language.model import LanguageModel, is_language
from zoo.language.recipe import LANGUAGE
from zoo.language.sampling import Sampling
from zoo.language.translator import Translator, paired
from zoo.training import Training

TEXTS = ["the king", "the go forth here tell", "", "the here servant go", "the tell", "the forth king go here"]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return EncoderDecoder(vocabulary=50, context=12, layers=2, heads=2, width=8, encoder=2).network().eval()


@torch.inference_mode()
def test_the_encoder_sees_all_of_a_text_and_nothing_behind_it(network):
    long, lengths = padded([[5, 6, 7, 8], [9, 3]])
    states = network.read(long, lengths)
    alone = network.read(*padded([[9, 3]]))
    assert torch.allclose(states.keys[:, 1:, :3], alone.keys, atol=1e-5)
    changed = network.read(*padded([[5, 6, 7, 9], [9, 3]]))
    assert not torch.allclose(states.keys[:, 0, 0], changed.keys[:, 0, 0], atol=1e-4)
    written = torch.tensor([[0, 4, 5]])
    one, other = (network(written.expand(2, -1), memory=memory) for memory in (states, changed))
    assert not torch.allclose(one[0], other[0], atol=1e-4) and torch.allclose(one[1], other[1], atol=1e-5)


@torch.inference_mode()
def test_a_cache_changes_nothing(network):
    torch.manual_seed(1)
    read, written, slots = (
        padded([[5, 6, 7, 8, 9], [9, 3], [4]]),
        torch.randint(50, (3, 6)),
        torch.tensor([4, 0, 2]),
    )
    whole = network(written, memory=network.read(*read))
    cache = Cache(EncoderDecoder(50, 12, 2, 2, 8, encoder=2), 5)
    cache.keep(torch.tensor([4, 0, 2]), network.read(*padded([[1] * 10] * 3)))  # of texts that left
    cache.keep(slots, network.read(*read))
    told = [network(written[:, at : at + 1], Past(cache, slots, torch.full((3, 1), at))) for at in range(6)]
    assert torch.allclose(torch.cat(told, 1), whole, atol=1e-4)


def test_it_learns_to_translate_and_a_folder_keeps_it(tmp_path):
    new = sources(100, 5)
    right = [translation(text) == told for text, told in zip(new, likeliest(translator(), new, 20), strict=True)]
    assert sum(right) > 40
    translator().save(tmp_path)
    again = LanguageModel.load(tmp_path)
    assert isinstance(again, Translator) and is_language(tmp_path) and again.gpt == SMALL_PAIR
    assert np.array_equal(again.log_likelihoods(pairs()[0]), translator().log_likelihoods(pairs()[0]))


def test_likelihoods_are_those_of_the_second_side_given_the_first():
    model, (pair, other) = translator(), pairs()[:2]
    told = model.log_likelihoods(pair)
    assert len(told) == len(model.tokens.encode(pair.partition("\t")[2])) + 1
    wrong = paired([other.partition("\t")[0]], [pair.partition("\t")[2]])[0]
    assert told.sum() > model.log_likelihoods(wrong).sum() + 1
    assert model.perplexity(pairs()[:40]) < 3


def test_in_company_a_text_is_translated_as_alone():
    model = translator()

    def told(*texts, slots):
        batch, found = Batch(model, slots), {}
        for text in texts:
            batch.join(text)
        while len(batch):
            for text, tokens in batch.step():
                found.setdefault(text, []).extend(tokens)
        return [found[text] for text in texts]

    def asked():
        sampling = [Sampling(12, seed=i, logprobs=2) for i in range(len(TEXTS))]
        return [text_of(model, model.tokens.encode(text), how) for text, how in zip(TEXTS, sampling, strict=True)]

    alone = [told(text, slots=1)[0] for text in asked()]
    assert len({tuple(one.token for one in text) for text in alone}) > 3
    for company in (told(*asked(), slots=2), told(*asked(), slots=16)):
        for one, other in zip(alone, company, strict=True):
            assert [each.token for each in one] == [each.token for each in other]
            assert np.allclose([each.logprob for each in one], [each.logprob for each in other], atol=1e-4)


def test_embeddings_do_not_depend_on_company():
    ids = [translator().tokens.encode(text) for text in ("go forth", "king")]
    found = translator().embeddings(ids)
    assert found.shape == (2, 32) and np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert np.array_equal(found[1:], translator().embeddings(ids[1:]))


@pytest.mark.parametrize(
    ("texts", "fault"), [(["no tab"], "with a tab between"), (["a " * 40 + "\tb"], "none of which is shorter")]
)
def test_what_is_no_pair_of_the_context_is_refused(texts, fault):
    model = Translator.untrained(SMALL_PAIR, translator().tokens, seed=0)
    with pytest.raises(BadInput, match=fault):
        model.fit(texts, Training(), seed=0)


def test_a_network_too_large_is_refused_before_it_takes_memory():
    with pytest.raises(BadInput, match="weights; expected at most"):
        EncoderDecoder(encoder=10**6)
    with pytest.raises(BadInput, match="at least 1"):
        EncoderDecoder(encoder=0)


@pytest.mark.parametrize("name", ["kjv-en-es", "kjv-modern"])
def test_the_recipes_translators_have_about_1_3_million_parameters(name):
    sizes = LANGUAGE[name].gpt
    weights = sum(each.numel() for each in sizes.network().parameters())
    assert 1.2e6 < weights < 1.4e6 and 0 <= weights - sizes.weights < 5000  # the gains of normalisations


def test_pairs_are_verses_of_the_same_place_or_lines_of_a_table(tmp_path):
    with pytest.raises(Missing, match="sword-text-sparv libsword-utils, mkdir kjv_en_es, mod2imp") as missed:
        load("kjv_en_es", tmp_path, tmp_path)
    assert "\n" not in str(missed.value)
    folder = tmp_path / "kjv_en_es"
    folder.mkdir()
    (folder / "pairs.tsv").write_text("In the beginning\tEN el principio\n\nAnd\t Y  \n\tnothing\n")
    assert load("kjv_en_es", tmp_path, tmp_path).pool.x.tolist() == ["In the beginning\tEN el principio", "And\tY"]
    (folder / "pairs.tsv").write_text("a\tb\nno pair\n")
    with pytest.raises(BadInput, match="line 2: no tab"):
        load("kjv_en_es", tmp_path, tmp_path)
    (folder / "1.txt").write_text(
        "$$$Genesis 1:0\nFirst\n$$$Genesis 1:1\n¶ In the\nbeginning\n$$$Genesis 1:2\nAnd\n"
    )
    (folder / "2.txt").write_text(
        "$$$[ Heading ]\nx\n$$$Genesis 1:2\nY <H1961> dijo <H559>, así\n$$$Genesis 1:3\nz\n"
    )
    assert load("kjv_en_es", tmp_path, tmp_path).pool.x.tolist() == ["And\tY dijo, así"]
