"""The description of the API is that of the API."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from flask import Flask

from assistance.api.openapi import document, operations
from assistance.api.openapi_document import problems_of
from assistance.api.operations import Operation
from assistance.api.problem_types import PROBLEM_TYPES
from assistance.domain.caller import Caller, Scope
from assistance.domain.errors import DatabaseUnavailable
from tests.described import complaints, validator_of
from tests.memory_door import MemoryDoor

every_operation = pytest.mark.parametrize("operation", operations(), ids=lambda operation: operation.name)


@pytest.fixture(scope="module")
def app() -> Flask:
    return MemoryDoor().app()


def test_every_route_is_described_and_nothing_else(app: Flask) -> None:
    served = {
        (method, rule.rule)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {(operation.method, operation.path) for operation in operations()} == served


def test_every_operation_has_a_name_of_its_own() -> None:
    names = [operation.name for operation in operations()]
    assert len(set(names)) == len(names)


@every_operation
def test_the_parameters_of_a_path_are_described(operation: Operation) -> None:
    in_path = {parameter.name for parameter in operation.parameters if parameter.place == "path"}
    assert in_path == set(re.findall(r"<(?:\w+:)?(\w+)>", operation.path))


def gives(scope: Scope, other: Scope | None) -> bool:
    return other is not None and Caller(client="bot", scopes=frozenset({scope})).may(other)


@every_operation
def test_what_an_operation_demands_is_the_scope_that_it_names(operation: Operation) -> None:
    path = re.sub(r"<(?:\w+:)?\w+>", "01a1fc7e-2ccd-784a-8c72-549b47e809ff", operation.path)
    door = MemoryDoor()
    bot = door.app().test_client()
    refused = []
    for missing in (*operation.scopes, None):
        door.caller = Caller(client="bot", scopes=frozenset(scope for scope in Scope if not gives(scope, missing)))
        answer = bot.open(path, method=operation.method, json={})
        refused.append((answer.get_json(silent=True) or {}).get("code") == "forbidden")
    assert refused == [True] * len(operation.scopes) + [False]


def test_examples_are_what_the_models_say() -> None:
    checked = 0
    for methods in document(("sales", "pricing"))["paths"].values():
        for operation in methods.values():
            for content in contents(operation):
                shown = [example["value"] for example in content.get("examples", {}).values()]
                for example in shown + [content[name] for name in ("example",) if name in content]:
                    errors = list(validator_of(content["schema"]).iter_errors(example))
                    assert not errors, (operation["operationId"], [error.message for error in errors])
                    checked += 1
    assert checked > 15


def test_a_call_that_joins_is_described_beside_the_dry_run_and_nothing_else_is(app: Flask) -> None:
    bot = app.test_client()
    asked = {"topic": "sales", "description": "x", "dedup_key": "cus_42"}
    assert bot.post("/assistance", json=asked).status_code == 202
    answer = bot.post("/assistance", json=asked)
    joined: Any = answer.json
    assert (answer.status_code, joined["joined"], joined["event_version"]) == (200, True, 2)
    headers = list(answer.headers)
    for change in ({"joined": False}, {"event_version": "2"}, {"surprise": 1}, {"status": "lost"}):
        changed = json.dumps({**joined, **change}).encode()
        assert list(complaints("POST", "/assistance", 200, headers, changed)), change
    assert not list(complaints("POST", "/assistance", 200, headers, answer.data))


def contents(operation: dict[str, Any]) -> list[dict[str, Any]]:
    bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
    return [content for body in bodies for content in body.get("content", {}).values()]


def test_the_topics_of_the_installation_are_the_ones_that_a_body_may_name(app: Flask) -> None:
    described = app.test_client().get("/openapi.json").get_json()
    assert described["components"]["schemas"]["SubmissionBody"]["properties"]["topic"]["enum"] == [
        "sales",
        "pricing",
        "strasse",
    ]


def test_examples_name_a_topic_that_exists() -> None:
    ask = document(("billing",))["paths"]["/assistance"]["post"]
    assert ask["requestBody"]["content"]["application/json"]["example"]["topic"] == "billing"
    assert all("sales" not in sample["source"].split("-d ")[-1][:25] for sample in ask["x-codeSamples"])


@pytest.mark.parametrize("path", ["/openapi.json", "/docs"])
def test_whoever_is_not_known_reads_how_it_works_but_not_what_it_is_used_for(path: str) -> None:
    door = MemoryDoor()
    door.topics = ("secret-merger", "sales", "pricing")
    assert b"secret-merger" in door.app().test_client().get(path).data
    door.caller = DatabaseUnavailable()
    answer = door.app().test_client().get(path)
    assert answer.status_code == 200
    assert b"secret-merger" not in answer.data


class Page(HTMLParser):
    """What a browser would do with a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        given = dict(attributes)
        self.ids += [given["id"] or ""] if "id" in given else []
        self.links += [given[name] or "" for name in ("href", "src", "action") if name in given]


def test_the_page_tells_every_operation_and_needs_nothing_from_elsewhere(app: Flask) -> None:
    answer = app.test_client().get("/docs")
    page = Page(answer.text)
    assert {operation.name for operation in operations()} <= set(page.ids)
    assert len(set(page.ids)) == len(page.ids)
    assert not page.tags & {"script", "img", "iframe", "link", "form"}
    assert all(link.startswith(("#", "/")) for link in page.links)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert {link.removeprefix("/problems/") for link in page.links if link.startswith("/problems/")} <= set(
        PROBLEM_TYPES
    )
    policy = answer.headers["Content-Security-Policy"]
    (nonce,) = re.findall(r"style-src 'nonce-([^']+)'", policy)
    assert policy.startswith("default-src 'none';")
    assert f'<style nonce="{nonce}">' in answer.text


def test_the_examples_call_the_address_that_the_page_came_from(app: Flask) -> None:
    answer = app.test_client().get("/docs", base_url="https://help.example.com:8443")
    assert "export ASSISTANCE_URL=https://help.example.com:8443\n" in answer.text


def test_every_problem_belongs_to_an_operation() -> None:
    # A method that a path does not have is no operation.
    declared = {kind.code for operation in operations() for kind in problems_of(operation)} | {"method-not-allowed"}
    assert declared == set(PROBLEM_TYPES)


def test_the_document_is_plain_json() -> None:
    assert json.loads(json.dumps(document(("sales",)))) == document(("sales",))
