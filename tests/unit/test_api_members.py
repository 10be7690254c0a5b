"""What `POST /assistance` promises about the optional members: which values are taken, how kept, how refused."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from assistance.api.problems import Problem
from assistance.api.schema import parse_submission
from assistance.domain.errors import AlreadyExpired
from assistance.domain.request import Priority, Submission
from tests.memory_door import MemoryDoor
from tests.unit.corpora import corpus

GOOD = {"topic": "sales", "description": "Customer wants a quote for 40 seats"}
FULL = {
    **GOOD,
    "title": "Quote for 40 seats",
    "priority": "high",
    "customer": {
        "id": "cus_42",
        "name": "Ada",
        "email": "ada@example.com",
        "phone": "+4512345678",
        "locale": "da-DK",
        "timezone": "Europe/Copenhagen",
        "tier": "gold",
    },
    "conversation": {
        "id": "wa:4512345678",
        "channel": "whatsapp",
        "transcript": [
            {"at": "2026-03-04T15:01:00+01:00", "from": "customer", "text": "Do you sell\r\nto schools?"},
            {"from": "bot", "text": ""},
        ],
        "transcript_url": "https://chat.example.com/c/42",
    },
    "bot": {
        "name": "shopbot",
        "version": "3.2",
        "confidence": 0.31,
        "sentiment": -1,
        "reason": "low_confidence",
        "tried": ["faq:returns"],
    },
    "attachments": [
        {"url": "https://files.example.com/o.pdf", "name": "order.pdf", "media_type": "application/pdf; x=1"}
    ],
    "metadata": {"order_id": "1234", "seats": 40, "share": 0.25, "new": True, "note": "a\nb", "empty": ""},
    "dedup_key": "cus_42:quote",
    "not_before": "2026-11-21T08:00:00.1234567Z",
    "expires_at": "2026-11-23T00:00:00-01:00",
    "callback_url": "https://bot.example.com/hooks/assistance?a=1",
}


def parsed(**members: Any) -> Submission:
    return parse_submission({**GOOD, **members}, ("sales",))


def errors(**members: Any) -> dict[str, str]:
    """The codes of the mistakes by their pointers; the members have to be refused."""
    with pytest.raises(Problem) as refused:
        parsed(**members)
    assert refused.value.kind.http_status == 422
    found = refused.value.errors
    assert len({error.pointer for error in found}) == len(found)
    return {error.pointer: error.code for error in found}


def test_everything_that_a_bot_may_say_is_kept_as_it_was_said() -> None:
    submission = parse_submission(FULL, ("sales",))
    assert submission == Submission(
        topic="sales",
        description=GOOD["description"],
        title="Quote for 40 seats",
        priority=Priority.HIGH,
        customer=FULL["customer"],  # type: ignore[arg-type]
        bot=FULL["bot"],  # type: ignore[arg-type]
        conversation={
            "id": "wa:4512345678",
            "channel": "whatsapp",
            "transcript_url": "https://chat.example.com/c/42",
        },
        transcript=[
            {"at": "2026-03-04T14:01:00.000000Z", "from": "customer", "text": "Do you sell\nto schools?"},
            {"from": "bot", "text": ""},
        ],
        attachments=FULL["attachments"],  # type: ignore[arg-type]
        metadata=FULL["metadata"],  # type: ignore[arg-type]
        dedup_key="cus_42:quote",
        not_before=datetime(2026, 11, 21, 8, 0, 0, 123456, tzinfo=UTC),
        expires_at=datetime(2026, 11, 23, 1, tzinfo=UTC),
        callback_url="https://bot.example.com/hooks/assistance?a=1",
    )
    assert submission.metadata["new"] is True


def test_a_member_that_is_null_is_as_if_it_were_left_out() -> None:
    nothing = dict.fromkeys(FULL.keys() - GOOD.keys())
    assert parsed(**nothing) == parsed()
    inside = {"customer": {"name": None}, "conversation": {"transcript": None}, "bot": {"tried": None}}
    assert parsed(**inside) == parsed()


_TEXTS = [  # member, longest, whether it may have several lines, whether it may be empty
    ("/title", 200, False, False),
    *((f"/customer/{name}", size, False, False) for name, size in (("id", 255), ("name", 200), ("phone", 40))),
    *((f"/customer/{name}", size, False, False) for name, size in (("locale", 35), ("timezone", 64), ("tier", 64))),
    ("/conversation/id", 255, False, False),
    ("/conversation/channel", 64, False, False),
    ("/conversation/transcript/0/from", 64, False, False),
    ("/conversation/transcript/0/text", 4000, True, True),
    ("/bot/name", 100, False, False),
    ("/bot/version", 64, False, False),
    ("/bot/reason", 500, True, False),
    ("/bot/tried/0", 200, False, False),
    ("/attachments/0/name", 255, False, False),
    ("/metadata/k", 512, True, True),
    ("/dedup_key", 255, False, False),
]


def at(pointer: str, value: Any) -> dict[str, Any]:
    """A body's members with `value` at the place, and whatever else that place demands."""
    name, *rest = pointer.removeprefix("/").split("/")
    if not rest:
        return {name: value}
    if rest[0] == "0":
        needed = {"transcript": {"from": "x", "text": "x"}, "attachments": {"url": "https://e.test"}}.get(name)
        inner = value if len(rest) == 1 else {**(needed or {}), **at(f"/{'/'.join(rest[1:])}", value)}
        return {name: [inner]}
    return {name: at(f"/{'/'.join(rest)}", value)}


@pytest.mark.parametrize(("pointer", "longest", "lines", "blank"), _TEXTS, ids=[row[0] for row in _TEXTS])
def test_every_text_has_its_limits(pointer: str, longest: int, lines: bool, blank: bool) -> None:
    assert parsed(**at(pointer, "😀" * longest))
    assert errors(**at(pointer, "😀" * (longest + 1))) == {pointer: "too-long"}
    for bad in ("a\x00b", "\x1b[0m", "\x7f", "\x85", "\ud800", "a\udfff"):
        assert errors(**at(pointer, bad)) == {pointer: "character"}
    for breaks in ("a\nb", "a\tb", "a\r\nb"):
        assert parsed(**at(pointer, breaks)) if lines else errors(**at(pointer, breaks)) == {pointer: "character"}
    for empty in ("", "  ", "\u3000"):
        assert parsed(**at(pointer, empty)) if blank else errors(**at(pointer, empty)) == {pointer: "empty"}
    for wrong in (7, ["x"], {"x": "y"}):
        code = "not-a-string" if pointer != "/metadata/k" else "not-plain"
        assert errors(**at(pointer, wrong)) == {pointer: code} if wrong != 7 or code != "not-plain" else True


@pytest.mark.parametrize(
    ("pointer", "value", "code"),
    [
        ("/priority", "High", "not-allowed"),
        ("/priority", [], "not-allowed"),
        ("/customer", "Ada", "not-an-object"),
        ("/customer", [], "not-an-object"),
        ("/customer/email", "", "email"),
        ("/customer/email", "ada", "email"),
        ("/customer/email", "a@b.test, c@d.test", "email"),
        ("/customer/email", "Ada <a@b.test>", "email"),
        ("/customer/email", "a@b.test\nBcc: c@d.test", "email"),
        ("/customer/email", '"a b"@c.test', "email"),
        ("/customer/email", "a@[127.0.0.1]", "email"),
        ("/customer/email", "\ud800@b.test", "email"),
        ("/customer/email", "a@" + "b" * 253, "too-long"),
        ("/conversation/transcript", {}, "not-a-list"),
        ("/conversation/transcript", [{"from": "x", "text": "x"}] * 201, "too-many"),
        ("/conversation/transcript/0", "x", "not-an-object"),
        ("/conversation/transcript_url", "ftp://e.test", "url"),
        ("/bot/confidence", 1.01, "out-of-range"),
        ("/bot/confidence", -0.01, "out-of-range"),
        ("/bot/confidence", "0.5", "not-a-number"),
        ("/bot/confidence", True, "not-a-number"),
        ("/bot/sentiment", 10**99, "out-of-range"),
        ("/bot/sentiment", -1.5, "out-of-range"),
        ("/bot/tried", "faq", "not-a-list"),
        ("/bot/tried", ["x"] * 21, "too-many"),
        ("/attachments", [{"url": "https://e.test"}] * 11, "too-many"),
        ("/attachments/0/url", "file:///etc/passwd", "url"),
        ("/attachments/0/media_type", "pdf", "media-type"),
        ("/attachments/0/media_type", "a/b\r\nX: y", "media-type"),
        ("/attachments/0/media_type", "a/" + "b" * 254, "too-long"),
        ("/metadata", [], "not-an-object"),
        ("/metadata", {str(number): "" for number in range(51)}, "too-many"),
        ("/metadata/k", None, "not-plain"),
        ("/metadata/k", 2**53, "out-of-range"),
        ("/metadata/k", -1e300, "out-of-range"),
        ("/callback_url", "http://", "url"),
        ("/callback_url", "https://e.test/\u0007", "url"),
        ("/callback_url", "https://user:secret@e.test/", "url"),
        ("/callback_url", "https://[::1", "url"),
        ("/callback_url", "https://e.test:x/", "url"),
        ("/callback_url", "https://bücher.test/", "url"),
        ("/callback_url", "javascript:alert(1)//https://e.test", "url"),
        ("/callback_url", "https://e.test/" + "x" * 2034, "too-long"),
    ],
)
def test_a_value_that_makes_no_sense_is_named_by_its_pointer(pointer: str, value: Any, code: str) -> None:
    assert errors(**at(pointer, value)) == {pointer: code}


def test_what_lies_just_within_the_limits_is_taken() -> None:
    assert parsed(
        conversation={"transcript": [{"from": "x", "text": "x"}] * 200},
        attachments=[{"url": "http://e.test"}] * 10,
        metadata={f"{number:064}": 2**53 - 1 for number in range(50)},
        bot={"confidence": 1, "sentiment": 1.0, "tried": ["x"] * 20},
        callback_url="https://e.test/" + "x" * 2033,
    )


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("2026-03-04T14:02:00Z", datetime(2026, 3, 4, 14, 2, tzinfo=UTC)),
        ("2026-03-04t14:02:00z", datetime(2026, 3, 4, 14, 2, tzinfo=UTC)),
        ("2026-03-04 14:02:00.5+23:59", datetime(2026, 3, 3, 14, 3, 0, 500_000, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59.999999999Z", datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
    ],
)
def test_a_time_is_kept_in_utc(text: str, kept: datetime) -> None:
    assert parsed(not_before=text).not_before == kept


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tomorrow",
        "2026-03-04",
        "2026-03-04T14:02:00",
        "2026-03-04T14:02Z",
        "20260304T140200Z",
        "2026-W10-3T14:02:00Z",
        "2026-02-29T00:00:00Z",
        "2026-03-04T24:00:00Z",
        "2026-03-04T14:02:60Z",
        "2026-03-04T14:02:00+24:00",
        "2026-03-04T14:02:00+0100",
        "2026-03-04T14:02:00,5Z",
        "2026-03-04T14:02:00Z\n",
        "٢٠٢٦-03-04T14:02:00Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "2026-03-04T14:02:00\ud800",
    ],
)
def test_what_is_no_whole_time_is_refused(text: str) -> None:
    for pointer in ("/not_before", "/expires_at", "/conversation/transcript/0/at"):
        assert errors(**at(pointer, text)) == {pointer: "not-a-time"}
    assert errors(not_before=1_772_632_920) == {"/not_before": "not-a-string"}


@pytest.mark.parametrize("expires_at", ["2026-03-04T14:02:00Z", "2026-03-04T15:01:59+01:00"])
def test_nothing_expires_before_it_begins(expires_at: str) -> None:
    begins = {"not_before": "2026-03-04T14:02:00Z"}
    assert errors(**begins, expires_at=expires_at) == {"/expires_at": "too-early"}
    assert parsed(**begins, expires_at="2026-03-04T14:02:01Z")


def test_a_request_that_has_expired_before_it_is_stored_is_refused_by_its_pointer() -> None:
    door = MemoryDoor()
    door.failure = AlreadyExpired()
    answer = door.app().test_client().post("/assistance", json={**GOOD, "expires_at": "2026-03-04T14:02:00Z"})
    assert (answer.status_code, answer.get_json()["code"]) == (422, "validation-failed")
    assert [(error["pointer"], error["code"]) for error in answer.get_json()["errors"]] == [("/expires_at", "past")]


def test_every_mistake_at_every_level_is_reported_at_once() -> None:
    found = errors(
        titel="x",
        priority="asap",
        customer={"nmae": "x", "a/b~c": 1, "email": 5},
        conversation={"transcript": [{"from": "x", "text": "x"}, {"form": "x", "at": "now"}]},
        bot={"confidence": 2},
        attachments=[{"name": "x"}, {"url": "x"}],
        metadata={"": 1, "k": [], "x" * 65: 1},
        not_before="now",
        callbackurl="https://e.test",
        description="",
        topic="sails",
    )
    assert found == {
        "/topic": "unknown-topic",
        "/description": "empty",
        "/priority": "not-allowed",
        "/customer/email": "not-a-string",
        "/customer/nmae": "unknown-member",
        "/customer/a~1b~0c": "unknown-member",
        "/conversation/transcript/1/from": "required",
        "/conversation/transcript/1/text": "required",
        "/conversation/transcript/1/form": "unknown-member",
        "/conversation/transcript/1/at": "not-a-time",
        "/bot/confidence": "out-of-range",
        "/attachments/0/url": "required",
        "/attachments/1/url": "url",
        "/metadata/": "empty",
        "/metadata/k": "not-plain",
        "/metadata": "too-long",  # a name that is too long to repeat
        "/not_before": "not-a-time",
        "/titel": "unknown-member",
        "/callbackurl": "unknown-member",
    }


@pytest.mark.parametrize(
    ("members", "meant"),
    [
        ({"titel": "x"}, "title"),
        ({"customer": {"e-mail": "x"}}, "email"),
        ({"conversation": {"transcript": [{"from": "x", "text": "x", "time": "x"}]}}, None),
        ({"conversation": {"transcript": [{"form": "x", "from": "x", "text": "x"}]}}, "from"),
        ({"attachments": [{"url": "https://e.test", "mediatype": "x"}]}, "media_type"),
    ],
)
def test_an_unknown_member_is_answered_with_the_name_that_was_probably_meant(
    members: dict[str, Any], meant: str | None
) -> None:
    with pytest.raises(Problem) as refused:
        parsed(**members)
    (error,) = refused.value.errors
    assert error.code == "unknown-member"
    assert (f"Did you mean '{meant}'?" in error.message) if meant else ("Did you mean" not in error.message)


@pytest.mark.parametrize(
    ("members", "pointer", "code"),
    [
        ({"\ud800": 1}, "", "unknown-member"),
        ({"customer": {"\ud800": 1}}, "/customer", "unknown-member"),
        ({"metadata": {"\ud800": "x"}}, "/metadata", "character"),
        ({"attachments": [{"url": "https://e.test", "\ud800": 1}]}, "/attachments/0", "unknown-member"),
    ],
)
def test_a_name_that_is_no_text_hides_no_other_mistake(members: dict[str, Any], pointer: str, code: str) -> None:
    assert errors(**members, title="") == {pointer: code, "/title": "empty"}


def test_a_body_full_of_mistakes_gets_a_short_answer() -> None:
    with pytest.raises(Problem) as refused:
        parsed(conversation={"transcript": [{"x" * 60: 1}] * 200}, metadata={f"{n:060}": None for n in range(50)})
    assert len(str(refused.value.document(path="/assistance", request_id="x"))) < 16_000


def test_an_address_of_the_corpus_is_taken_or_refused_and_never_fails() -> None:
    outcomes = {}
    for case in corpus("isemail/tests.json"):
        try:
            kept = parsed(customer={"email": case["address"]}).customer["email"]
            assert kept == case["address"]
            outcomes[case["address"]] = case["category"]
        except Problem as problem:
            assert {error.pointer for error in problem.errors} == {"/customer/email"}
    assert len(outcomes) > 5
    assert not {"ISEMAIL_ERR", "ISEMAIL_CFWS"} & set(outcomes.values())
