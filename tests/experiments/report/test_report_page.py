"""The summary, the contents and the edges of the report."""

import html
import json
from pathlib import Path

import pytest
from reporting import (
    POLICIES,
    Page,
)

from experiments.__main__ import main
from experiments.report import report
from experiments.report.formatting import interval
from wire import BadInput

COMMITTED = Path(__file__).parents[3] / "results" / "fashion-mnist.json"


def test_the_contents_lead_to_the_sections(results, page):
    elements = page(results).elements
    links = [of["href"][1:] for tag, of in elements if tag == "a"]
    assert links == [of["id"] for tag, of in elements if tag == "section"]
    assert links[0] == "verdicts" and len(links) == 7


def test_the_summary_is_computed_from_the_numbers(results, page):
    lines = page(results).text
    assert "The best surrogate: knockoff at open, 160 rows for 0.0160 currency units: accuracy 85.5 %" in lines
    assert "trained on as many rows with true labels, a model reaches 81.5 %" in lines
    assert "under each other policy: knockoff at labels, 100 rows for 0.0100 currency units (stopped:" in lines
    assert "is shadow at open: AUC 0.632 ± 0.098, where chance is 0.5 and the gap baseline reaches 0.541" in lines
    assert "The twin test: the victim itself and 1 of 2 stolen models accused, and, falsely, 0 of 2" in lines
    assert "answered 980 rows in 12 attacks, for 0.0980 currency units, and 9,257 rows in the owner’s" in lines


def test_the_judgement_is_in_the_verdicts_and_in_the_summary(results, page):
    text = " ".join(page(results).text.split())
    assert "The judge about stolen-open: derived. The repeated test passes the committed rule." in text
    assert "z is 5.87, where his line is 2.75. He asked 900 rows, for 0.0900 currency units." in text
    assert "Not checked: whether the owner has other logs" in text
    assert "A judge repeated the twin test of stolen-open: derived (z 5.9, line 2.8)." in text
    results["ownership"]["judgement"] |= {"outcome": "refused", "z": None, "limit": None}
    assert "A judge repeated the twin test of stolen-open: refused. He asked" in " ".join(
        page(results).text.split()
    )
    del results["ownership"]["judgement"]
    assert "judge about" not in page(results).text


def test_what_the_tests_prove_follows_from_the_verdicts(results, page):
    assert "prove" not in _tested(page(results))
    suspects, false = results["ownership"]["tests"]["twin-test"], results["ownership"]["false_accusations"]
    suspects[1]["verdict"] = "inconclusive"
    assert "the victim itself and 0 of 2 stolen models accused" in _tested(page(results))
    assert "no theft is proved" in _tested(page(results))
    suspects[0]["verdict"] = "inconclusive"
    assert "does not recognise even the victim" in _tested(page(results))
    false["twin-test"]["accused"] = 1
    assert "have nothing to do with the victim proves nothing" in _tested(page(results))


def _tested(page):
    return page.words[page.words.index("Ownership") + 1]


def test_a_ledger_that_differs_is_shouted(results, page):
    assert "role=alert" not in _alerts(page(results))
    results["extraction"][2]["ledger"]["rows"] += 1
    results["membership"][0]["ledger"]["micro_cents"] -= 5
    found = page(results)
    assert _alerts(found) == ["role=alert"]
    assert "knockoff-labels-40: rows: client 40, server 41" in found.words
    assert "gap-open: micro-cents: client 1,000,000, server 999,995" in found.words
    assert "THE SERVER’S LEDGER DIFFERS from the client’s count in 2 of 12 attacks" in found.text
    assert "DIFFERS: rows: client 40, server 41" in [cell for row in found.rows for cell in row]


def _alerts(page):
    return [f"role={attributes['role']}" for _, attributes in page.elements if attributes.get("role") == "alert"]


def test_money_that_the_client_does_not_know_is_no_mismatch(results, page):
    results["extraction"][0]["money"] = None
    found = page(results)
    assert not _alerts(found)
    assert "not known" in [cell for row in found.rows for cell in row]


def test_names_cannot_become_markup(results, page, tmp_path):
    evil = '<img src="https://example.org/x" onerror=alert(1)>'
    results["data"]["name"] = results["data"]["source"] = results["data"]["missed"] = evil
    results["ownership"]["tests"]["dataset-inference"][1]["name"] = evil
    results["policies"] = {evil if name == "open" else name: stack for name, stack in POLICIES.items()}
    for run in [*results["extraction"], *results["membership"]]:
        run["policy"] = evil if run["policy"] == "open" else run["policy"]
        run["reason"] = evil
    found = page(results)
    assert "img" not in {tag for tag, _ in found.elements}
    assert f"Data: {evil}, from {evil}." in html.unescape(found.text)
    assert evil in found.words  # as a policy and a suspect, in tables and in figures


def test_the_protocol_and_the_settings_are_named(results, page):
    found = page(results)
    assert "reduced (test)" in found.words
    assert "budgets of 40, 160 rows" in " ".join(found.text.split())
    assert ["budgets", "40, 160", "Budgets of the extraction attacks, in rows."] in found.rows
    assert ["knockoff", "family mlp; hidden 20, 20"] in found.rows
    assert ["dataset-inference", "fit_images 12; alpha 0.01"] in found.rows
    assert ["extraction", "20.5"] in found.rows and ["total", "21.8"] in found.rows
    assert ["settings", "jbda: seeds: 20; t-rnd: lrs: 0.001, 0.01"] in [row[:2] for row in found.rows]
    assert ["mlaas-range", "1.2.3, commit abcdef"] in found.rows
    assert ["load before", "0.5, 0.25, 0.1"] in found.rows and ["torch", "2.13"] in found.rows
    assert POLICIES["labels"] in found.words


def test_an_attack_that_does_not_apply_is_shown_as_such(results, page):
    run = results["extraction"][1]
    del run["accuracy"], run["agreement"]
    run |= {"status": "not applicable", "reason": "it takes no gradients", "rows": 0}
    found = page(results)
    assert "not applicable: it takes no gradients" in found.words


def test_missing_pieces_do_not_break_it(results, page):
    small = results
    small["settings"]["budgets"] = [40]
    small["extraction"] = [run for run in results["extraction"] if run["budget"] == 40 and run["policy"] == "open"]
    small["baselines"] = []
    small["policies"] = {"open": ""}
    small["membership"] = []
    small["data"]["rows"]["control"] = small["settings"]["independent_rows"]
    found = page(small)
    assert "There was one policy only." in found.text
    assert "All models were trained on the same 90 rows" in " ".join(found.text.split())


def test_the_command_renders_the_committed_results_again(tmp_path, capsys):
    main(["report", str(COMMITTED), "--out", str(tmp_path)])
    found = Page(tmp_path / "report.html")
    assert capsys.readouterr().out.strip() == str(tmp_path / "report.html")
    results = json.loads(COMMITTED.read_text())
    assert results["notes"][0] in found.words  # its server read other names of defences
    for run in results["extraction"]:
        assert interval(run["agreement"]) in [cell for row in found.rows for cell in row]


@pytest.mark.parametrize(("text", "expected"), [("{", "Expecting"), ("[]", "date"), ('{"date": 1}', "version")])
def test_other_files_are_refused(tmp_path, text, expected):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(BadInput, match=f"{expected}.*expected the results.json of a demo"):
        report.read(tmp_path / "results.json")
    with pytest.raises(BadInput, match="No such file"):
        report.read(tmp_path / "absent.json")


def test_what_json_gives_back_makes_the_same_page(results, tmp_path):
    pages = [
        report.write(given, tmp_path / name).read_text()
        for name, given in (("live", results), ("file", json.loads(json.dumps(results))))
    ]
    assert pages[0] == pages[1]
