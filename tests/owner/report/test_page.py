import dataclasses
import html
import re

import numpy as np
import pytest

from owner.commitment import Entry, commit, opened, receipt
from owner.evidence import Evidence
from owner.judgement import Checks, Judgement, Rejected
from owner.log.log import Log
from owner.report.page import page, z_figure
from owner.twin_test import TwinTest
from owner.twins.answers import Holdings
from owner.twins.selection import CAUTION, Selected
from tests.owner.lottery import asking, drawn, twins
from wire import BadInput

METHOD = TwinTest(rows=60, copies=False)


@pytest.fixture(scope="module")
def evidence(tmp_path_factory):
    rng = np.random.default_rng(4)
    models = [drawn(rng) for _ in range(12)]
    log = commit(Log.open(tmp_path_factory.mktemp("log"), create=True), Entry("17" * 32, 12))
    held = twins(models, settings=METHOD.committed())
    held = dataclasses.replace(
        held, receipt=receipt(log, Entry("17" * 32, 12), opened({"rule": b"{}"}, "17" * 32, "rule"))
    )
    holdings = Holdings(held, {"<one>": asking(drawn(rng)), "two": asking(drawn(rng))})
    found = METHOD.accuse(asking(models[0]), METHOD.prepare(holdings, rng), rng)
    return dataclasses.replace(found, suspect="<suspect>", suspect_money=250_000_000).signed(log.key)


def text_of(content):
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", content)))


def test_the_page_says_what_a_reader_needs(evidence):
    content = page(evidence)
    text = text_of(content)
    for heading in (
        "The claim",
        "The method",
        "How sure it is",
        "What was asked, and what it cost",
        "What was committed before",
        "What would refute it",
    ):
        assert f"<h2>{heading}</h2>" in content
    assert "Was “<suspect>” made from the owner’s model?" in text and "<suspect>" not in content
    assert "The owner: accused." in text and "No judge has repeated the test" in text
    assert "trained 11 twins" in text and "number 1 of 12 by resemblance" in text
    assert f"{evidence.suspect_queries} rows, for 2.5000 units" in text and "shown no private image" in text
    assert "0 of 2 independent models (exact 95 % interval 0 to 84 %)" in text
    assert "17" * 32 in text and "entry 1 of 1" in text
    method = re.search(r"<h2>The method</h2>\n<p>(.*?)</p>", content, re.DOTALL)[1]
    assert len(re.findall(r"\.(?=\s|$)", method)) == 3


def test_the_page_needs_nothing_else(evidence):
    content = page(evidence)
    assert not re.search(r"(src|href)=|@import|url\(|<script", content)


def test_the_figure_shows_suspect_controls_and_line(evidence):
    content = page(evidence)
    details = evidence.details
    drawn_z = {float(z) for z in re.findall(r"<title>(-?[\d.]+)</title>", content)}
    expected = {round(z, 2) for z in (details.z, details.limit, *details.independent.values())}
    assert sorted(drawn_z) == pytest.approx(sorted(expected)) and content.count("<svg") == 1
    places = [float(x) for x in re.findall(r'cx="([\d.]+)"', content)]
    assert all(170 <= x <= 720 for x in places)
    bare = z_figure([("suspect (owner)", [-200.0])], None)
    assert 'class="limit"' not in bare and bare.count("<circle") == 1


def judgement_of(evidence, found):
    checks = Checks(["the log <is> right"], ["other logs"])
    return Judgement.of(evidence, checks, found)


def test_a_judgement_stands_beside_the_claim(evidence, tmp_path):
    again = dataclasses.replace(evidence, suspect_queries=59)
    judgement = judgement_of(evidence, again)
    text = text_of(page(evidence, judgement))
    assert "The judge: derived." in text and "The judge asked 59 rows." in text
    assert "the log <is> right" in text and "other logs" in text
    missed = dataclasses.replace(again, verdict="inconclusive", p_value=0.3)
    text = text_of(page(evidence, judgement_of(evidence, missed)))
    assert "The judge: not shown. The repeated test does not pass" in text
    text = text_of(page(evidence, judgement_of(evidence, Rejected("the log is forked"))))
    assert "The judge: refused. The log is forked." in text


def test_the_judgement_of_other_evidence_is_refused(evidence):
    judgement = judgement_of(evidence, evidence)
    with pytest.raises(BadInput, match="the judgement is of other evidence"):
        page(dataclasses.replace(evidence, signature="00"), judgement)


def test_evidence_of_selected_inference_has_a_page_too():
    details = Selected("00", 3.0, 5.5, 60, {"one": 0.4, "two": 0.0001}, 1)
    evidence = Evidence(
        method="selected-inference",
        verdict="accused",
        p_value=0.0001,
        alpha=0.01,
        suspect="m",
        suspect_queries=120,
        settings={"tries": 3},
        caution=CAUTION,
        details=details,
    )
    text = text_of(page(evidence))
    assert "It was shown 60 private images." in text and "divided his images at random" in text
    assert "no receipt of a log" in text and "1 of 2 independent models" in text
    assert "multiplied by 1 commitment(s) in the owner’s log and 3 suspect(s) tested" in text
