import re

from reporting import POLICIES, Page

from experiments.report import report
from experiments.report.formatting import interval, money, pvalue


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
