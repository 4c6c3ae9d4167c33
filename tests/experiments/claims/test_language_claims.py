"""The claims about language models over HTTP, small."""

import numpy as np
import pytest

from experiments.claims.command import reproduce, table
from experiments.claims.hidden_width import LAYERS, HiddenWidth
from experiments.claims.imitation import Imitation
from experiments.claims.output_layer import A12
from experiments.claims.radioactive_text import TextRadioactivity
from experiments.claims.random_words import A10
from experiments.claims.secrets import E11
from experiments.claims.translation import A11, Translation
from tests.tiny_language import WORDS, sources, translation

SIZES = (300, 40, 1, 2, 8)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    lines = {" ".join(rng.choice(WORDS, rng.integers(5, 11))).capitalize() + "." for _ in range(900)}
    (folder / "kjv").mkdir()
    (folder / "kjv" / "words.txt").write_text("\n".join(sorted(lines)))
    for name in ("kjv_en_es", "kjv_modern"):
        (folder / name).mkdir()
        (folder / name / "pairs.tsv").write_text("\n".join(f"{x}\t{translation(x)}" for x in sources(1500, 3)))
    (folder / "rt-polarity").mkdir()
    for side, words in (("pos", "fine lovely moving"), ("neg", "dull slow flat")):
        drawn = [" ".join(rng.choice([*WORDS, *3 * words.split()], 8)) for _ in range(200)]
        (folder / "rt-polarity" / f"rt-polarity.{side}").write_text("\n".join(drawn))
    return folder


@pytest.fixture
def run(data, tmp_path_factory):
    base = tmp_path_factory.mktemp("claims")

    def run(claim, seeds=1):
        found = reproduce({claim.ID: claim}, out=base / "out", cache=base / "cache", data=data, seeds=range(seeds))
        assert claim.ID in table(found)
        return found["claims"][claim.ID]

    return run


def test_a12_finds_the_width_by_each_way(run):
    label = {"label_sizes": (300, 40, 1, 2, 4), "label_prompts": 12}
    small = A12(epochs=1, sizes=SIZES, prompts=40, tokens=40, all_prompts=0, **label)
    found = run(small)
    by_way = found["more"]["measured"][0]
    assert [by_way[way]["width"] for way in ("top 20", "top 5")] == [8, 8]
    assert all(by_way[way]["error"] < 1e-3 for way in ("top 20", "top 5"))
    assert by_way["null"]["rank"] is None and by_way["null"]["error"] > 0.5
    assert by_way["text alone"]["completions"] > by_way["top 5"]["completions"] > by_way["top 20"]["completions"]
    assert by_way["top 20"]["micro_cents"] > 100 * by_way["top 20"]["completions"]


@pytest.mark.slow
def test_e11_exposes_what_was_planted_often(run):
    found = run(E11(epochs=30, sizes=(300, 64, 2, 2, 32), sample=100, controls=3, guesses=3))
    one = found["more"]["measured"][0]
    assert one["counted"][-1] > 4 and one["fitted"][-1] > one["fitted"][0]  # planted 32 times, and once
    assert [len(each) for each in one["never_counted"]] == [3] * 6
    assert 0.3 < np.mean(one["never_counted"]) < 3
    assert len(one["place"]) == 6 and set(one["never_place"]) == {None}
    assert len(found["rows"]) == 18


@pytest.mark.slow
@pytest.mark.parametrize("claim", [Translation, A11])
def test_imitations_stand_beside_own_pairs_shuffled_answers_and_copies(run, claim):
    found = run(
        claim(
            epochs=12, sizes=(290, 48, 1, 2, 32, 1), sentences=(60, 400), passes=10, judged=40, flipped=10, flips=1
        )
    )
    one = found["more"]["measured"][0]
    more, null = one["imitation, 400"], one["shuffled answers, 60"]
    assert 0 <= null["victim"] < more["victim"] <= 100 and one["victim"]["reference"] > 10
    assert set(one["flips"]) == {"on the imitation", "on a model of own pairs", "at random"}
    assert more["texts"] == 400 and more["completions"] == 400 >= more["pairs"] > 300
    assert more["micro_cents"] == 100 * more["prompt_tokens"] + 400 * more["completion_tokens"]
    assert len(found["rows"]) == 2 * 2 + 3
    assert one["copy of the text"] == {"victim": pytest.approx(0, abs=5), "reference": pytest.approx(0, abs=5)}


@pytest.mark.slow
def test_students_of_texts_and_log_probabilities_stand_beside_public_text(run):
    found = run(Imitation(epochs=4, sizes=SIZES, tokens=(1500, 4000), passes=4, judged=40))
    one = found["more"]["measured"][0]
    assert set(one) == {"victim"} | {f"{of}, {n}" for of in ("text", "logprobs", "public") for n in (1500, 4000)}
    for learns in ("text", "logprobs"):
        less, more = one[f"{learns}, 1500"], one[f"{learns}, 4000"]
        assert 0 < more["divergence"] < 1  # nats
        assert less["completion_tokens"] >= 1500 and 4000 <= more["completion_tokens"] < 4000 + 64 * 39
        assert more["micro_cents"] == 400 * more["completion_tokens"]
    assert len(found["rows"]) == 12


@pytest.mark.slow
def test_each_defence_stands_beside_what_it_costs(run):
    one = run(HiddenWidth(epochs=1, sizes=SIZES, prompts=40, tokens=40, judged=10))["more"]["measured"][0]
    assert set(one) == set(LAYERS)
    assert [one[kind]["width"] for kind in ("none", "top_logprobs 5", "top_logprobs 0", "rounding 4")] == [8] * 4
    assert one["noise 0.5"]["width"] != 8 and (one["noise 0.5"]["error"] or 1) > 0.01
    assert [one[kind]["width"] for kind in ("bias_xor_logprobs", "no_logprobs")] == [None, None]
    assert one["rounding 1"]["perplexity"] == pytest.approx(one["none"]["perplexity"], rel=0.05)
    assert one["noise 0.5"]["perplexity"] > one["none"]["perplexity"]
    assert one["no_logprobs"]["perplexity"] is None


def test_a10_finds_texts_of_the_victim_s_kind_better_than_random_words(run):
    found = run(A10(rows=(50,)))
    agreement = {row["what"]: row["measured"] for row in found["rows"] if row["what"].endswith("agreement")}
    assert len(found["rows"]) == 8 and len(agreement) == 4 and all(value > 0.3 for value in agreement.values())
    assert agreement["texts of the victim's corpus: agreement"] > 0.75


@pytest.mark.slow
def test_suspects_stand_before_the_owner_s_key_and_wrong_ones(run):
    found = run(TextRadioactivity(epochs=2, sizes=SIZES, tokens=1500, passes=2, told=600, delta=4.0))
    one = found["more"]["measured"][0]
    assert one["the marked victim"]["log_p"] < -5 and abs(one["the bare victim"]["z"]) < 4
    assert all(len(one[f"student, {name}"]["wrong"]) == 20 for name in ("marked", "bare"))
    assert one["student, marked"]["read"] >= 600 and len(found["rows"]) == 8
