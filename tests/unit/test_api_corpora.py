"""Inputs that others collected to break parsers: none makes the API fail, none gets past it by accident."""

from __future__ import annotations

import base64
import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from assistance.api.problems import Problem
from assistance.api.schema import parse_submission
from tests.memory_door import CORPORA, MemoryDoor
from tests.unit.renderings import everywhere, mail, slack_texts, view_of, webhook

pytestmark = pytest.mark.skipif(not CORPORA.exists(), reason="the corpora are not here")
PARSING = CORPORA / "jsontestsuite" / "test_parsing"


def post_raw(client: FlaskClient, body: bytes) -> int:
    overrides = {"CONTENT_LENGTH": str(len(body))}
    return client.post(
        "/assistance", data=body, content_type="application/json", environ_overrides=overrides
    ).status_code


def answers_to(prefix: str) -> dict[str, int]:
    door = MemoryDoor()
    client = door.app().test_client()
    answers = {path.name: post_raw(client, path.read_bytes()) for path in sorted(PARSING.glob(f"{prefix}_*.json"))}
    assert door.submitted == []
    return answers


def test_everything_that_is_not_json_is_400() -> None:
    answers = answers_to("n")
    assert len(answers) == 188
    # Two of the files are larger than any body may be; the rest is read and refused.
    assert {name: status for name, status in answers.items() if status != 400} == {
        name: 413 for name in answers if (PARSING / name).stat().st_size > 65_536
    }


def test_everything_that_is_json_is_understood_although_it_is_no_request() -> None:
    answers = answers_to("y")
    assert len(answers) == 95
    assert {name for name, status in answers.items() if status == 400} == {
        "y_object_duplicated_key.json",
        "y_object_duplicated_key_and_value.json",
    }
    assert set(answers.values()) == {400, 422}


def test_what_parsers_may_decide_is_refused_cleanly() -> None:
    answers = answers_to("i")
    assert len(answers) == 35
    assert set(answers.values()) <= {400, 422}


def expected_for(text: str) -> int:
    normal = text.replace("\r\n", "\n").replace("\r", "\n")
    bad = any(unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t" for character in normal)
    return 422 if bad or not text.strip() or len(normal) > 4000 else 202


def strings_in(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for part in inner for text in strings_in(part)]


def texts() -> list[str]:
    naughty = json.loads(Path(CORPORA / "naughty-strings" / "blns.base64.json").read_text(encoding="ascii"))
    found = [base64.b64decode(text).decode("utf-8", "replace") for text in naughty]
    for name in ("slack", "email_headers", "smtp_data", "log"):
        found += strings_in(json.loads(Path(CORPORA / "injection" / f"{name}.json").read_text(encoding="utf-8")))
    assert len(found) > 500
    return found


def rules() -> dict[str, tuple[int, bool, bool]]:
    """The places of `everywhere`: their length, whether they may have several lines, whether they may be blank."""
    lines = {"title": 200, "dedup_key": 255, "conversation/id": 255, "conversation/channel": 64}
    lines |= {"customer/id": 255, "customer/name": 200, "customer/phone": 40, "customer/locale": 35}
    lines |= {"customer/timezone": 64, "customer/tier": 64, "bot/name": 100, "bot/version": 64, "bot/tried/0": 200}
    lines |= {f"conversation/transcript/{number}/from": 64 for number in range(3)} | {"attachments/0/name": 255}
    found = {f"/{place}": (longest, False, False) for place, longest in lines.items()} | {
        "/bot/reason": (500, True, False)
    }
    return found | {f"/conversation/transcript/{number}/text": (4000, True, True) for number in range(3)}


def refused_places(text: str) -> set[str]:
    """Where the text may not stand, by the rules alone; `/metadata` stands for its name and its value."""
    normal = re.sub(r"\r\n?", "\n", text)

    def bad(longest: int, lines: bool, blank: bool) -> bool:
        shown = normal if lines else text
        controls = any(unicodedata.category(c) in ("Cc", "Cs") and not (lines and c in "\n\t") for c in shown)
        return controls or len(shown) > longest or not (blank or shown.strip())

    found = {place for place, rule in rules().items() if bad(*rule)}
    return found | ({"/metadata"} if bad(64, False, False) or bad(512, True, True) else set())


def test_naughty_strings_in_every_member_are_passed_on_unchanged_or_refused_by_the_rule() -> None:
    door = MemoryDoor()
    client = door.app().test_client()
    accepted = 0
    for text in texts():
        door.submitted.clear()
        door.requests.clear()  # else one with the same dedup_key would be joined
        members = everywhere(text)
        body = json.dumps({"topic": "sales", "description": "x", **members}).encode("utf-8")
        overrides = {"CONTENT_LENGTH": str(len(body))}
        answer = client.post("/assistance", data=body, content_type="application/json", environ_overrides=overrides)
        pointers = [error["pointer"] for error in (answer.get_json().get("errors") or ())]
        found = {re.sub("^/metadata.*", "/metadata", pointer, flags=re.DOTALL) for pointer in pointers}
        if len(body) > 65_536:  # written twenty times, a text of 5,000 characters is no body any more
            assert answer.status_code == 413
            continue
        assert (answer.status_code, found) == (422 if refused_places(text) else 202, refused_places(text)), text
        for submission in door.submitted:
            accepted += 1
            view = view_of(submission)
            assert [submission.title, submission.dedup_key, submission.metadata] == [text, text, {text: text}]
            assert json.loads(json.dumps(webhook(view).content))["data"]["customer"] == members["customer"]
            slack_texts(view)
            mail(view)
    assert accepted > 300


def test_naughty_strings_as_addresses_and_times_are_refused_or_harmless() -> None:
    for text in texts():
        for place in ("url", "email", "time", "media_type"):
            try:
                kept = parse_submission({"topic": "sales", "description": "x", **as_address(place, text)}, ("sales",))
            except Problem as problem:
                assert len(problem.errors) == 1
            else:
                assert text.isprintable()
                assert len(mail(view_of(kept))[1].get_all("To", [])) == 1


def as_address(place: str, text: str) -> dict[str, Any]:
    """The member that takes such a value, with `text` in it."""
    match place:
        case "email":
            return {"customer": {"email": text}}
        case "time":
            return {"not_before": text}
        case "url":
            return {"attachments": [{"url": text}]}
    return {"attachments": [{"url": "https://e.test/", "media_type": text}]}


@pytest.mark.parametrize("escaped", [True, False])
def test_naughty_strings_are_passed_on_unchanged_or_refused_by_the_rule(escaped: bool) -> None:
    door = MemoryDoor()
    client = door.app().test_client()
    wrong = []
    for text in texts():
        body = json.dumps({"topic": "sales", "description": text}, ensure_ascii=escaped).encode("utf-8")
        door.submitted.clear()
        stored = [re.sub(r"\r\n?", "\n", text)] if expected_for(text) == 202 else []
        if post_raw(client, body) != expected_for(text) or [s.description for s in door.submitted] != stored:
            wrong.append(text)
    assert wrong == []


def test_naughty_strings_as_topic_member_key_or_path_are_refused_and_nothing_more() -> None:
    door = MemoryDoor()
    client = door.app().test_client()
    for text in texts():
        assert post_raw(client, json.dumps({"topic": text, "description": "x"}).encode()) == 422
        assert post_raw(client, json.dumps({"topic": "sales", "description": "x", text: 1}).encode()) == 422
        header = text.encode("utf-8").decode("latin-1")
        environ = {"HTTP_IDEMPOTENCY_KEY": header, "HTTP_X_REQUEST_ID": header, "HTTP_IF_NONE_MATCH": header}
        assert client.post("/assistance", json={}, environ_overrides=environ).status_code in (400, 422)
        assert client.get("/assistance/x", environ_overrides={"PATH_INFO": f"/assistance/{header}"}).status_code == 404
    assert door.submitted == []
