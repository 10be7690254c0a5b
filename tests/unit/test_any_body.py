"""Whatever a bot sends is a request that can be told, or a problem: never a fault of ours."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.memory_door import MemoryDoor
from tests.unit.renderings import mail, slack_texts, view_of, webhook

_NAMES = ("name", "id", "from", "text", "url", "at", "email", "a/b", "", "\ud800", "__proto__")
_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_NAMES), inner, max_size=3),
    max_leaves=6,
)
_LINE = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=30)
_LINES = st.text(st.characters(exclude_categories=("Cc", "Cs"), include_characters="\n\t\r"), max_size=4_000)
_URL = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=2_000).map(
    lambda path: f"https://e.test/{path}"
)
_TIME = st.datetimes().map(lambda moment: moment.isoformat() + "Z") | st.just("2026-03-04T14:02:00+02:00")


def _members(required: dict[str, Any] | None = None, **optional: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """An object with some of its members; now and then one of them is anything, or a name is unknown."""
    right = st.fixed_dictionaries(required or {}, optional=optional)
    wrong = st.dictionaries(st.sampled_from((*optional, "unknown", "\x00")), _ANY, max_size=1)
    return st.tuples(right, st.just({}) | st.just({}) | st.just({}) | wrong).map(lambda both: both[0] | both[1])


_ENTRY = _members({"from": _LINE, "text": _LINES}, at=_TIME)
BODIES = _members(
    {"topic": st.sampled_from(("sales", " Pricing ", "STRASSE")), "description": _LINES},
    title=_LINE,
    priority=st.sampled_from(("low", "normal", "high", "urgent")),
    customer=_members(id=_LINE, name=_LINE, email=st.emails() | _LINE, phone=_LINE, tier=_LINE),
    conversation=_members(id=_LINE, channel=_LINE, transcript=st.lists(_ENTRY, max_size=8), transcript_url=_URL),
    bot=_members(
        name=_LINE, reason=_LINES.map(lambda text: text[:500]), confidence=st.floats(0, 1), tried=st.lists(_LINE)
    ),
    attachments=st.lists(_members({"url": _URL}, name=_LINE, media_type=st.just("text/plain")), max_size=10),
    metadata=st.dictionaries(_LINE, _LINE | st.integers() | st.booleans() | st.floats(-1e9, 1e9), max_size=5),
    dedup_key=_LINE,
    not_before=_TIME,
    expires_at=_TIME,
    callback_url=_URL,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(BODIES | _ANY)
def test_any_body_is_accepted_and_can_be_told_or_is_refused_with_reasons(body: Any) -> None:
    door = MemoryDoor()
    sent = json.dumps(body).encode()
    overrides = {"CONTENT_LENGTH": str(len(sent))}
    client = door.app().test_client()
    answer = client.post("/assistance", data=sent, content_type="application/json", environ_overrides=overrides)
    if answer.status_code != 202:
        assert answer.status_code in (400, 413, 422)
        assert answer.content_type == "application/problem+json"
        assert answer.status_code != 422 or answer.get_json()["errors"]
        assert door.submitted == []
        return
    view = view_of(door.submitted[0], late_seconds=90)
    slack_texts(view)
    mail(view)
    json.dumps(webhook(view).content, allow_nan=False).encode("utf-8")
