"""The owner's test of a suspect's own texts, and its judge. Claims show that students write such ones."""

import dataclasses
from datetime import UTC, datetime

import numpy as np
import pytest

from defenses.watermarks.green_list import green
from owner.commitment import commit, receipt
from owner.evidence import describe, load
from owner.judgement import Rejected
from owner.log.log import Log
from owner.radioactive_text import MarkedText, RadioactiveText, TextMark, new_key
from owner.text_judge import SPOOFED, TextCase, judge
from owner.text_nearness import log_likelihoods, nearness, of_model, read_texts, told_by
from tests.completing import oracle
from tests.fake_language_server import FakeLanguageServer
from tests.tiny_language import sentences, tiny
from wire import BadInput, Refused
from wire.completions import Completed, Completion, CompletionOracle, TokenUsage

V = len(tiny().tokens)
KEY = new_key(tiny().tokens, 0.25, "5" * 64)
HELD = MarkedText(tiny().tokens, KEY)
PROOF = RadioactiveText(tokens=300, length=20, at_once=16)
SIGNS = [tiny().tokens.encode(sign)[0] for sign in "0123456789#$%+=*/<>?"]
LATER = datetime(2100, 1, 1, tzinfo=UTC)
RNG = np.random.default_rng


def suspect(share, echoes=None):
    """A suspect that writes twenty tokens, of which the next is a green one in a share of the cases.

    It finds texts as likely as ``echoes`` says; without it, it does not echo.
    """
    lists = {i: green(bytes.fromhex(KEY.seed), i, V, 0.25) for i in SIGNS}
    likely = {i: [j for j in SIGNS if lists[i][j]] or SIGNS for i in SIGNS}

    def told(asked):
        prompts, decoding = asked
        if decoding.echo:
            if echoes is None:
                raise Refused("echo is not offered here", status=400)
            return Completed([[Completion(text, ("a",), (echoes[text],))] for text in prompts], TokenUsage(1))
        rng = RNG(decoding.seed)
        texts = [[int(rng.choice(SIGNS))] for _ in range(decoding.n)]
        for text in texts:
            while len(text) < decoding.max_tokens:
                text.append(int(rng.choice(likely[text[-1]] if rng.random() < share else SIGNS)))
        completions = [Completion(tiny().tokens.decode(text)) for text in texts]
        return Completed([completions], TokenUsage(0, sum(map(len, texts))))

    return CompletionOracle(told, "suspect")


def test_a_suspect_that_writes_green_tokens_is_told_and_another_is_not():
    marked, bare = (PROOF.accuse(suspect(share), HELD, RNG(0)) for share in (0.9, 0.0))
    assert (marked.verdict, bare.verdict) == ("accused", "inconclusive")
    assert marked.p_value < 1e-5 < bare.p_value and marked.details.z > 5 and abs(bare.details.z) < 3.5
    for each in (marked.details, bare.details):
        assert len(each.wrong) == 20 and np.mean(np.abs(each.wrong)) < 2.5
        assert 300 <= each.tokens < 300 + 16 * 20 and each.pairs < each.tokens
    assert "queried the suspect with" in describe(marked) and "tokens" in describe(marked)


def test_the_p_value_is_no_lower_than_the_binomial_one_and_counts_tries():
    once, thrice = (dataclasses.replace(PROOF, tries=tries).accuse(suspect(0.3), HELD, RNG(0)) for tries in (1, 3))
    assert once.p_value >= once.details.p_binomial
    assert thrice.p_value == pytest.approx(min(1, 3 * once.p_value))


def test_another_key_finds_nothing_and_other_tokens_are_refused():
    other = MarkedText(tiny().tokens, new_key(tiny().tokens, 0.25, "6" * 64))
    assert PROOF.accuse(suspect(0.9), other, RNG(0)).verdict == "inconclusive"
    with pytest.raises(BadInput, match="give the owner's file"):
        changed = dataclasses.replace(KEY.rule, files={"tokens": "0" * 64})
        PROOF.accuse(suspect(0.9), MarkedText(tiny().tokens, dataclasses.replace(KEY, rule=changed)), RNG(0))


def test_a_suspect_that_says_nothing_is_not_accused():
    with pytest.raises(BadInput, match="told no text: the next prompt may cost"):
        PROOF.accuse(oracle(tiny(), budget=0), HELD, RNG(0))
    with pytest.raises(BadInput, match="gamma lie between"):
        RadioactiveText(gamma=1)
    with pytest.raises(BadInput, match="at least 3 wrong keys"):
        RadioactiveText(wrong_keys=2)


TEXTS = [f"text {n}" for n in range(200)]
VICTIM = RNG(1).normal(size=200)  # what it says of them, beyond what all models say
COMMON = 2 * RNG(2).normal(size=200)


def said(near, seed):
    """What a model says of the texts: some of it is what the victim says."""
    return COMMON + near * VICTIM + 0.5 * RNG(seed).normal(size=200)


CONTROLS = [said(0.2, 10 + at) for at in range(4)]


@pytest.fixture
def log(tmp_path):
    return commit(Log.open(tmp_path / "log", create=True), KEY.entry)


def judged(log, accused, since=LATER, **more):
    evidence = PROOF.accuse(suspect(0.9), held_of(log), RNG(0)).signed(log.key)
    case = TextCase(evidence, [log.heads[-1]], HELD, since)
    more = {"texts": TEXTS, "victim": COMMON + VICTIM, "controls": CONTROLS, **more}
    return judge(case, PROOF, accused, RNG(7), **more)


def held_of(log):
    return MarkedText(tiny().tokens, dataclasses.replace(KEY, receipt=receipt(log, KEY.entry, KEY.opened_rule())))


def echoing(values):
    return dict(zip(TEXTS, values.tolist(), strict=True))


def test_a_judge_accuses_if_mark_date_and_nearness_speak_and_asks_for_himself(log):
    found = judged(log, suspect(0.9, echoing(said(4.0, 3))))
    assert found.verdict == "accused" and found.details.finding == "taken from the victim"
    assert found.details.nearness > max(found.details.controls) and found.p_value < 0.01
    assert "nearness to the victim" in describe(found)


@pytest.mark.parametrize(
    ("share", "near", "more", "why"),
    [
        (0.9, 0.2, {}, "no nearer to the victim than models that were made to carry the mark"),
        (0.9, 4.0, {"since": None}, "nobody knows whether the commitment is older"),
        (0.9, 4.0, {"controls": CONTROLS[:2]}, "it takes the victim and 3 controls"),
        (0.9, 4.0, {"victim": None}, "it takes the victim and 3 controls"),
        (0.9, None, {}, "does not echo likelihoods"),
    ],
)
def test_where_the_mark_alone_speaks_it_is_spoofed_or_inconclusive(log, share, near, more, why):
    accused = suspect(share, None if near is None else echoing(said(near, 3)))
    found = judged(log, accused, **more)
    assert found.verdict == "inconclusive" and found.details.finding == SPOOFED and why in found.details.why


def test_a_suspect_without_the_mark_is_not_accused_however_near(log):
    found = judged(log, suspect(0.0, echoing(said(4.0, 3))))
    assert (found.verdict, found.details.finding) == ("inconclusive", "no mark")


def test_papers_that_do_not_hold_are_refused_before_the_suspect_is_asked(log):
    accused = suspect(0.9)
    evidence = PROOF.accuse(suspect(0.9), held_of(log), RNG(0)).signed(log.key)
    other = MarkedText(tiny().tokens, new_key(tiny().tokens, 0.25, "6" * 64))
    early = datetime(2000, 1, 1, tzinfo=UTC)
    gamma = dataclasses.replace(evidence, settings={**evidence.settings, "gamma": 0.5}, signature="")
    for case, why in (
        (TextCase(evidence, [log.heads[-1]], other, LATER), "belongs to the commitment"),
        (TextCase(evidence, [log.heads[-1]], HELD, early), "no older than the suspect"),
        (TextCase(dataclasses.replace(evidence, p_value=0.0), [log.heads[-1]], HELD, LATER), "not signed"),
        (TextCase(gamma.signed(log.key), [log.heads[-1]], HELD, LATER), "gamma is 0.5, but the key is of 0.25"),
        (TextCase(dataclasses.replace(evidence, receipt=None), [log.heads[-1]], HELD, LATER), "no receipt"),
    ):
        with pytest.raises(Rejected, match=why):
            judge(case, PROOF, accused, RNG(0))
    assert accused.requests == 0


def test_nearness_is_what_others_do_not_share():
    others = [said(0, seed) for seed in (4, 5)]
    assert nearness(said(4.0, 6), COMMON + VICTIM, others) > 0.8
    assert abs(nearness(said(0.0, 6), COMMON + VICTIM, others)) < 0.3
    with pytest.raises(BadInput, match="expected at least 20"):
        nearness(VICTIM[:10], VICTIM[:10], [VICTIM[:10]])


def test_likelihoods_at_hand_are_those_of_an_echo(tmp_path):
    texts = sentences()[:3]
    own = of_model(tiny(), texts)
    assert log_likelihoods(oracle(tiny()), texts) == pytest.approx(own, abs=1e-3)
    tiny().save(tmp_path / "model")
    assert told_by(str(tmp_path / "model"), texts) == pytest.approx(own)
    with FakeLanguageServer(tiny()) as server:
        assert told_by(server.url, texts, server.key) == pytest.approx(own, abs=1e-3)
        server.echoes = False
        with pytest.raises(BadInput, match="does not say how likely"):
            told_by(server.url, texts, server.key)
    with pytest.raises(BadInput, match="neither a model's folder nor a URL"):
        told_by("nowhere", texts)
    (tmp_path / "few.txt").write_text("one\ntwo\n")
    with pytest.raises(BadInput, match="has 2 texts; expected at least 20"):
        read_texts(tmp_path / "few.txt")


def test_the_commands_mark_prove_and_judge(tmp_path, capsys):
    from cli.command import run
    from owner.command import main

    def command(*words):
        with pytest.raises(SystemExit) as end:
            run(main, [str(word) for word in words])
        return end.value.code, capsys.readouterr()

    tiny().save(tmp_path / "model")
    tokens = ["--vocabulary", tmp_path / "model" / "tokenizer.json"]
    mark, log = tmp_path / "mark", tmp_path / "log"
    assert command("mark-text", *tokens, "--log", log, "--out", mark)[0] == 0
    assert len((mark / "green.key").read_bytes()) == 32
    status, said = command("mark-text", *tokens, "--log", log, "--out", mark)
    assert status == 2 and "has a key already" in said.err
    with FakeLanguageServer(tiny()) as server:
        reached = ["--url", server.url, "--key", server.key, "--tokens", 300, "--length", 20, "--at-once", 16]
        out, held = tmp_path / "evidence.json", ["--mark", mark, *tokens]
        status, said = command("radioactive-text", *held, "--log", log, *reached, "--out", out)
        assert status == 0 and "inconclusive" in said.out and f"evidence in {out}" in said.out
        evidence = load(out, TextMark)
        assert evidence.suspect_queries >= 300 and evidence.suspect_money > 0 and evidence.signature
        heads = sorted(log.glob("head*"))
        told = tmp_path / "found.json"
        judging = ["judge-text", out, "--head", *heads, *held, *reached, "--since", "2100-01-01", "--out", told]
        status, said = command(*judging)
        assert status == 0 and "finding: no mark" in said.out
        out.write_text(out.read_text().replace('"inconclusive"', '"accused"'))
        status, said = command(*judging)
        assert status == 2 and "not signed by the key of the log" in said.err
