import json
import re
from http import HTTPStatus

import pytest

from server.http.problems import OPENAI
from server.protocols import PROTOCOLS
from server.protocols.protocol import find


@pytest.fixture
def document(local):
    return local.client.get("/openapi.json").json()


def operations(document):
    return [(path, method, told) for path, entry in document["paths"].items() for method, told in entry.items()]


def test_every_route_is_described_with_every_answer(document):
    for path, _, told in operations(document):
        assert told["description"] and told["tags"], path
        success = {status for status in told["responses"] if status < "300"}
        assert success in ({"200"}, {"201"}), path
        assert {"400", "408", "413", "415", "500", "503"} <= set(told["responses"]) - success
        for status, answer in told["responses"].items():
            assert "X-Request-Id" in answer["headers"] and answer["description"], (path, status)
            for kind, content in answer["content"].items():
                assert content["schema"], (path, status)
                problem = "application/json" if path in OPENAI else "application/problem+json"
                assert status in success or kind == problem, (path, status)
                assert status not in success or kind != "application/problem+json", (path, status)


def test_refusals_are_told_with_their_headers_and_examples(document):
    for path, _, told in operations(document):
        for status, answer in told["responses"].items():
            if status >= "400" and path in OPENAI:
                assert answer["content"]["application/json"]["example"]["error"]["message"]
            elif status >= "400":
                example = answer["content"]["application/problem+json"]["example"]
                assert (example["status"], example["title"]) == (int(status), HTTPStatus(int(status)).phrase)
                assert example["error"] == example["detail"]
        if "429" in told["responses"]:
            limits = {"RateLimit", "RateLimit-Policy"}
            assert limits | {"Retry-After"} <= set(told["responses"]["429"]["headers"])
            assert limits <= set(told["responses"]["200"]["headers"])
        if "401" in told["responses"]:
            assert "WWW-Authenticate" in told["responses"]["401"]["headers"]


def test_who_needs_a_key_is_told(local, document):
    assert document["security"] == [{"key": []}]
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    for path, method, told in operations(document):
        concrete = re.sub(r"{\w+}", "open", path)
        keyless = local.client.request(method, concrete).status_code != 401
        assert keyless == (told.get("security") == []), path
        assert keyless == ("401" not in told["responses"]), path


def test_every_schema_has_an_example_or_is_made_of_such(document):
    schemas = document["components"]["schemas"]
    lacking = [
        (name, member)
        for name, schema in schemas.items()
        if "examples" not in schema
        for member, told in schema["properties"].items()
        if not {"examples", "$ref", "const"} & told.keys()
        and "$ref" not in json.dumps(told)
        and "description" not in told
    ]
    assert not lacking


def test_the_documented_hot_routes_are_those_that_are_answered(document):
    posts = {
        path for path, method, _ in operations(document) if method == "post" and not path.startswith("/admin")
    }
    assert len(posts) == 6
    for path in posts - {*OPENAI}:
        target = find(path.replace("{model}", "m").replace("{version}", "v"), PROTOCOLS)
        assert target.model == "m" and (target.version == "v") == ("{version}" in path)
        assert target.route in posts


def test_the_page_loads_nothing_from_elsewhere(local):
    page = local.client.get("/docs")
    assert page.status_code == 200 and "/openapi.json" in page.text
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(loaded) >= 2
    for path in loaded:
        assert path.startswith("/") and local.client.get(path).status_code == 200, path
    assert not re.search(r"https?://", page.text)
