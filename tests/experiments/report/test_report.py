import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from experiments.__main__ import main
from experiments.report import report
from experiments.report.formatting import interval, money, pvalue
from wire import BadInput

COMMITTED = Path(__file__).parents[3] / "results" / "fashion-mnist.json"
PROTOCOL = {
    "name": "reduced (test)",
    "budgets": [40, 160],
    "settings": {"jbda": {"seeds": 20}, "t-rnd": {"lrs": [0.001, 0.01]}},
    "candidates": 50,
    "fit_images": 12,
    "test_images": 12,
    "starts": 2,
    "independent_rows": 90,
    "twins": 15,
}
POLICIES = {"open": "", "labels": 'defenses = [{ type = "quota", rows = 100 }]'}
VOID = {"meta", "br"}


def bill(account, rows, requests=2):
    ledger = {"rows": rows, "requests": requests, "micro_cents": rows * 10_000}
    return {"account": account, "rows": rows, "requests": requests, "money": rows * 10_000, "ledger": ledger}


def rate(value):
    return [value, value - 0.0123, value + 0.0123]


def theft(attack, policy, budget, accuracy):
    stopped = policy == "labels" and budget > 100
    return {
        **bill(f"{attack}-{policy}-{budget}", min(budget, 100) if stopped else budget),
        "attack": attack,
        "policy": policy,
        "budget": budget,
        "settings": {"family": "mlp", "hidden": [20, 20], "state": None},
        "status": "stopped" if stopped else "done",
        "reason": "quota: asked for 60 rows with 0 left of 100 this day (HTTP 429)" if stopped else None,
        "seconds": 1.5,
        "accuracy": rate(accuracy),
        "agreement": rate(accuracy + 0.02),
    }


def spying(attack, policy, area, roc):
    return {
        **bill(f"{attack}-{policy}", 100),
        "attack": attack,
        "policy": policy,
        "budget": 100,
        "settings": {},
        "status": "done",
        "reason": None,
        "seconds": 0.5,
        "members": 50,
        "others": 48,
        "auc": area,
        "auc_error": 0.05,
        "balanced_accuracy": 0.5 + area / 10,
        "tpr_at": {"0.01": rate(area / 8), "0.001": rate(area / 9)},
        **({"precision": rate(0.6), "recall": rate(0.7)} if attack == "gap" else {}),
        "roc": roc,
    }


def suspect(name, delta_mu, verdict="inconclusive"):
    return {
        "name": name,
        "kind": name.split("-")[0],
        "accuracy": None if name == "victim" else rate(0.8),
        "method": "dataset-inference",
        "verdict": verdict,
        "alpha": 0.01,
        "p_value": 0.25 - delta_mu / 2,
        "delta_mu": delta_mu,
        "interval": [delta_mu - 0.2, delta_mu + 0.2],
        "money": 1_234_0000,
        "samples_exposed": 12,
        "suspect_queries": 1234,
        "victim_queries": 0,
        "victim_queries_before": 4321,
        "private_scores": [-1.0, -0.9, 0.3, 0.99],
        "unseen_scores": [-0.5, 0.1, 0.9, 1.0],
        "settings": {"fit_images": 12, "alpha": 0.01},
        "seed": 7,
        "caution": "Read it beside the rate of false accusations.",
    }


def twin(name, z, verdict="inconclusive", account=None):
    return {
        "name": name,
        "kind": name.split("-")[0],
        "account": account,
        "accuracy": None if name == "victim" else rate(0.8),
        "money": 900_0000,
        "method": "twin-test",
        "verdict": verdict,
        "alpha": 0.01,
        "p_value": 0.004,
        "suspect_queries": 900,
        "settings": {"rows": 100, "margin": 1.0},
        "caution": "It is a rate over victims.",
        "models": 16,
        "rests_on": "t",
        "rank": 1 if z > 2 else 7,
        "p_rank": 1 / 16,
        "z": z,
        "p_t": 0.004,
        "limit": 2.5,
        "independent": {"controls/0": 1.5, "controls/1": -0.4},
    }


def marked(name, matches, verdict="inconclusive", account=None):
    entries = {"method": "dawn", "settings": {}, "alpha": 1e-6, "marks": 20, "matches": matches}
    return {**twin(name, 0, verdict, account), **entries, "p_value": 0.5 - matches / 40, "money": 20_0000}


CURVE = [[0.0, 0.0, 0.02, 0.3, 0.7, 1.0], [0.0, 0.05, 0.1, 0.5, 0.8, 1.0]]
POINT = [[0.0, 0.8, 1.0], [0.0, 0.9, 1.0]]


@pytest.fixture
def results():
    return {
        "date": "2026-01-31",
        "version": "1.2.3",
        "commit": "abcdef",
        "machine": {"platform": "Linux", "cores": 2, "load_before": [0.5, 0.25, 0.1], "device": "cpu"},
        "versions": {"python": "3.11", "torch": "2.13", "redis": None},
        "seeds": [3],
        "settings": dict(PROTOCOL),
        "meanings": {"budgets": "Budgets of the extraction attacks, in rows."},
        "notes": [],
        "data": {
            "name": "digits",
            "source": "scikit-learn",
            "missed": None,
            "rows": {"victim": 500, "unseen": 120, "pool": 250, "shadow": 250, "control": 500, "evaluation": 120},
        },
        "victim": {"family": "cnn", "accuracy": rate(0.901), "train_accuracy": rate(0.98)},
        "policies": dict(POLICIES),
        "extraction": [
            theft("knockoff", "open", 40, 0.611),
            theft("jbda", "open", 40, 0.522),
            theft("knockoff", "labels", 40, 0.593),
            theft("jbda", "labels", 40, 0.514),
            theft("knockoff", "open", 160, 0.855),
            theft("jbda", "open", 160, 0.656),
            theft("knockoff", "labels", 160, 0.777),
            theft("jbda", "labels", 160, 0.638),
        ],
        "baselines": [
            {"rows": 40, "accuracy": rate(0.585), "agreement": rate(0.595)},
            {"rows": 160, "accuracy": rate(0.815), "agreement": rate(0.825)},
        ],
        "membership": [
            spying("gap", "open", 0.541, POINT),
            spying("shadow", "open", 0.632, CURVE),
            spying("gap", "labels", 0.523, POINT),
            {
                **{
                    name: value
                    for name, value in spying("shadow", "labels", 0.5, CURVE).items()
                    if name in {"attack", "policy", "budget", "settings", "seconds"}
                },
                **bill("shadow-labels", 0, 0),
                "status": "not applicable",
                "reason": "labels only",
            },
        ],
        "alarms": [
            {"account": "jbda-labels-160", "model": "labels", "detector": "prada", "row": 94},
            {"account": "jbda-labels-160", "model": "labels", "detector": "sybils", "row": 71},
        ],
        "ownership": {
            "root": "0123456789abcdef" * 4,
            "tests": {
                "twin-test": [
                    twin("victim", 81.0, "accused"),
                    twin("stolen-open", 6.0, "accused", "knockoff-open-160"),
                    twin("stolen-labels", 1.0, account="jbda-labels-160"),
                    twin("independent-0", -0.3),
                    twin("independent-1", 0.2),
                ],
                "dawn": [marked("stolen-labels", 19, "accused", "jbda-labels-160"), marked("independent-0", 1)],
                "dataset-inference": [
                    suspect("victim", 0.41, "accused"),
                    suspect("stolen-open", 0.32, "accused"),
                    suspect("independent-0", -0.03),
                    suspect("independent-1", 0.04),
                ],
            },
            "false_accusations": {
                "twin-test": {"accused": 0, "suspects": 2, "low": 0.0, "high": 0.8419},
                "dawn": {"accused": 0, "suspects": 1, "low": 0.0, "high": 0.975},
                "dataset-inference": {"accused": 0, "suspects": 2, "low": 0.0, "high": 0.8419},
            },
            "judgement": {
                "suspect": "stolen-open",
                "outcome": "derived",
                "why": "the repeated test passes the committed rule",
                "checked": ["3 models were trained again"],
                "unchecked": ["whether the owner has other logs"],
                "rows": 900,
                "money": 900_0000,
                "z": 5.87,
                "limit": 2.75,
                "page": "proof.html",
            },
            "ledgers": {
                "victims": {"rows": 5555, "requests": 10, "micro_cents": 0},
                "suspects": {"rows": 3702, "requests": 7, "micro_cents": 0},
            },
        },
        "seconds": {"data": 1.25, "extraction": 20.5},
    }


class Page(HTMLParser):
    """What a browser would find: elements with their attributes, the text of table rows, and all text."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.rows, self.open, self.words = [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert not self.open, f"never closed: {self.open}"

    @property
    def text(self):
        return " ".join(self.words)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if words := data.strip():
            self.words.append(words)
            if {"th", "td"} & set(self.open):
                self.rows[-1].append(words)


@pytest.fixture
def page(tmp_path):
    return lambda results: Page(report.write(results, tmp_path / "out"))


def test_the_page_is_one_file_that_loads_nothing(results, tmp_path):
    path = report.write(results, tmp_path / "out")
    assert path == tmp_path / "out" / "report.html"
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    page, text = Page(path), path.read_text()
    assert "script" not in {tag for tag, _ in page.elements}
    for _, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            assert attributes.get(name, "#").startswith("#")
    assert "http:" not in text and "https:" not in text and "@import" not in text
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))


def test_no_two_elements_share_an_id_and_each_reference_has_one(results, page):
    found = page(results)
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    references = {attributes["xlink:href"][1:] for _, attributes in found.elements if "xlink:href" in attributes}
    clips = {attributes["clip-path"][5:-1] for _, attributes in found.elements if "clip-path" in attributes}
    links = {attributes["href"][1:] for tag, attributes in found.elements if tag == "a"}
    assert references and clips and links
    assert references | clips | links == set(ids)


def test_every_figure_is_described_and_has_a_table(results, page):
    found = page(results)
    labels = [attributes["aria-label"] for tag, attributes in found.elements if attributes.get("role") == "img"]
    assert len(labels) == 2 * len(POLICIES) + 3
    assert len(set(labels)) == len(labels)
    captions = [words for words in found.words if re.match(r"Table \d+\.", words)]
    assert [int(re.findall(r"\d+", caption)[0]) for caption in captions] == list(range(1, len(captions) + 1))
    for start in ("Every extraction attack", "Every membership attack", "The twin test of every suspect"):
        assert sum(f". {start}" in caption for caption in captions) == 1


def test_every_extraction_appears_with_its_numbers(results, page):
    found = page(results)
    for run in results["extraction"]:
        reason = f": {run['reason']}" if run["reason"] else ""
        row = [run["attack"], str(run["budget"]), str(run["rows"]), "2", money(run["money"]), "equal"]
        row += [interval(run["accuracy"]), interval(run["agreement"]), run["status"] + reason]
        assert row in found.rows
    for run in results["baselines"]:
        row = ["true labels", "–", str(run["rows"]), "–", "–", "–", interval(run["accuracy"])]
        assert [*row, interval(run["agreement"])] in found.rows


def test_every_membership_attack_appears_with_its_numbers(results, page):
    found = page(results)
    for run in results["membership"][:3]:
        row = [run["attack"], "100", "0.0100", "equal", "50 / 48", f"{run['auc']:.3f} ± 0.098"]
        row += [f"{100 * run['balanced_accuracy']:.1f}"]
        row += [interval(run["tpr_at"][fpr], 2) for fpr in ("0.01", "0.001")]
        row += [interval(run[name]) if name in run else "–" for name in ("precision", "recall")]
        assert [*row, "done"] in found.rows
    assert ["shadow", "0", "0.0000", "equal", *7 * "–", "not applicable: labels only"] in found.rows


def test_every_suspect_appears_with_its_evidence(results, page):
    found = page(results)
    assert [
        *("stolen-open", "stolen", "80.0 (78.8–81.2)", "0.320 (0.120 to 0.520)", pvalue(0.09)),
        *("accused", "12", "1,234", "0 (4,321)"),
    ] in found.rows
    assert ["independent-0", "independent", "80.0 (78.8–81.2)", "−0.030 (−0.230 to 0.170)"] in [
        row[:4] for row in found.rows
    ]
    assert ["victim", "victim", "90.1 (88.9–91.3)"] in [row[:3] for row in found.rows]
    assert "0 of 2 independent models accused (exact 95 % interval 0.0 % to 84.2 %)" in " ".join(
        found.text.split()
    )
    assert results["ownership"]["tests"]["dataset-inference"][0]["caution"] in found.text


def test_every_theft_has_its_verdict(results, page):
    rows = page(results).rows
    stolen = next(run for run in results["extraction"] if run["account"] == "knockoff-open-160")
    assert [
        *("knockoff at open", "160", "0.0160", interval(stolen["agreement"]), "no alarm"),
        *("proved", "p = 0.004", "not run", "proved", "p = 0.090", "0.2134"),
    ] in rows
    (caught,) = [row for row in rows if row[0] == "jbda at labels" and len(row) > 8]
    assert caught[4:] == [
        *("sybils,", "row 71", "not shown", "p = 0.004", "proved", "p = 0.025", "not run", "0.0920")
    ]
    innocent = ["independent models accused falsely", "(exact 95 % interval)", "0 of 2", "(0 % to 84 %)"]
    assert [*innocent, "0 of 1", "(0 % to 98 %)", "0 of 2", "(0 % to 84 %)"] in rows


def test_an_approximate_p_is_called_so(results, page):
    line = "is Student’s t’s, which is approximate; its exact p is at least 0.062"
    assert line in " ".join(page(results).text.split())
    for one in results["ownership"]["tests"]["twin-test"]:
        one["rests_on"] = "rank"
    assert line not in " ".join(page(results).text.split())


def test_the_proof_is_priced_beside_the_theft(results, page):
    priced = [*("accused", "900", "0.0900"), *("160", "0.0160")]
    stolen = ["stolen-open", "80.0 (78.8–81.2)", "1 of 16", "0.062", "6.00", "0.004"]
    assert [*stolen, *priced] in page(results).rows


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
