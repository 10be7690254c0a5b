"""Filters: from the query of a URL and back, and what is said of those that make no sense."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from assistance.search.filters import Filter, LetterFilter, RequestFilter
from assistance.search.mistakes import FilterMistake
from assistance.search.place import Count, Place, Towards

ID = UUID("0199fd6e-0000-7000-8000-000000000001")
PLACE = Place(created_at=datetime(2026, 3, 4, 14, 2, 0, 123456, tzinfo=UTC), id=ID, towards=Towards.NEWER)

REQUESTS = {
    "q": "A-7F3K9Q",
    "ids": str(ID),
    "status": "undeliverable",
    "topic": "sales",
    "channel": "sales-team",
    "delivery_state": "retrying",
    "attempts_from": "3",
    "client": "web-bot",
    "customer": "cus_42",
    "text": "50% off_",
    "since": "2h",
    "until": "2026-03-04T14:02:00Z",
    "older_than": "5m",
    "slower_than": "90s",
}
LETTERS = {
    "ids": "3,4,17",
    "channel": "sales-team",
    "reason": "rejected",
    "cause": "16e721f7d8aea77abc6902f94d36f6fe",
    "topic": "sales",
    "since": "2026-03-01T00:00:00Z",
    "until": "2026-03-04T14:02:00.500000Z",
    "resolved": "true",
    "replayable": "true",
}

#: What no filter of its kind can mean, whatever it is called.
NOWHERE = {
    "moment": [
        "yesterday",
        "99999-01-01",
        "2026-13-01",
        "2026-02-30T00:00:00Z",
        "2026-03-04T25:00:00Z",
        "2026-03-04T14:02:00+99:00",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "1969-12-31",
        "٢٠٢٦-٠٣-٠٤",
        "2026-W10-3",
        "\x00",
        "9" * 5000,
    ],
    "period": ["5", "5 minutes", "-5m", "5w", "\u0665m", "999999999d", "87601h", "1e9s", "m", "\ud800"],
    "text": ["a\x00b", "\ud800", "x" * 256],
    "word": ["gone", "delivered\x00", "💥", "d" * 10_000],
    "number": ["0", "-1", "1.5", "1e3", "99999999999999999999", "٣", "0x10", "\x00"],
    "uuids": ["1", f"{ID},", f"{ID};{ID}", "g" * 32, f"{{{ID}}}", ",".join([str(ID)] * 1001)],
    "numbers": ["0", "-1", "1,,2", "1;2", "9223372036854775808", "1" * 40, ",".join(["1"] * 1001), "٣"],
    "yes": ["1", "TRUE", "on", "\x00"],
}
KINDS: dict[type[Filter], dict[str, str]] = {
    RequestFilter: {
        "q": "text",
        "ids": "uuids",
        "status": "word",
        "topic": "text",
        "channel": "text",
        "delivery_state": "word",
        "attempts_from": "number",
        "client": "text",
        "customer": "text",
        "text": "text",
        "since": "moment",
        "until": "moment",
        "older_than": "period",
        "slower_than": "period",
    },
    LetterFilter: {
        "ids": "numbers",
        "channel": "text",
        "reason": "text",
        "cause": "text",
        "topic": "text",
        "since": "moment",
        "until": "moment",
        "resolved": "yes",
        "replayable": "yes",
    },
}


@pytest.mark.parametrize(("kind", "query"), [(RequestFilter, REQUESTS), (LetterFilter, LETTERS)])
def test_a_filter_is_written_as_it_was_read(kind: type[Filter], query: dict[str, str]) -> None:
    assert kind.from_query(query).to_query() == query


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_of_a_filter_can_be_asked_for_and_is_checked(kind: type[Filter]) -> None:
    written = {RequestFilter: REQUESTS, LetterFilter: LETTERS}[kind]
    assert [field.name for field in fields(kind)] == list(written) == list(KINDS[kind])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [(kind, name, value) for kind, names in KINDS.items() for name, what in names.items() for value in NOWHERE[what]],
    ids=lambda value: ascii(value)[:30] if isinstance(value, str) else None,
)
def test_a_value_that_makes_no_sense_is_a_mistake_that_names_its_filter(
    kind: type[Filter], name: str, value: str
) -> None:
    with pytest.raises(FilterMistake) as caught:
        kind.from_query({name: value})
    assert caught.value.name == name
    assert caught.value.value == value or caught.value.value == f"{value[:80]}…"
    assert str(caught.value) == f"The filter {name} {caught.value.why}."


def test_an_empty_form_asks_for_everything() -> None:
    assert RequestFilter.from_query(dict.fromkeys(REQUESTS, "  ")) == RequestFilter()
    assert LetterFilter.from_query(dict.fromkeys(LETTERS, "")) == LetterFilter()
    assert RequestFilter().to_query() == LetterFilter().to_query() == {}


def test_a_filter_that_does_not_exist_is_a_mistake_unless_it_is_the_pages_own() -> None:
    with pytest.raises(FilterMistake, match=r"^The filter statsu does not exist; did you mean status\?\.$"):
        RequestFilter.from_query({"statsu": "delivered"})
    assert RequestFilter.from_query({"place": "nowhere"}, besides=("place",)) == RequestFilter()


def test_moments_are_read_in_their_time_zone_and_days_begin_in_utc() -> None:
    wanted = RequestFilter.from_query({"since": "2026-03-04T14:02:00+02:00", "until": "2026-03-05"})
    assert wanted.since == datetime(2026, 3, 4, 12, 2, tzinfo=UTC)
    assert wanted.until == datetime(2026, 3, 5, tzinfo=UTC)
    assert RequestFilter.from_query({"since": "7d"}).since == timedelta(days=7)
    assert RequestFilter.from_query({"until": "2026-03-04T14:02"}).until == datetime(2026, 3, 4, 14, 2, tzinfo=UTC)


def test_a_span_that_ends_before_it_begins_is_a_mistake() -> None:
    with pytest.raises(FilterMistake, match="until has to lie after since"):
        RequestFilter.from_query({"since": "2026-03-05", "until": "2026-03-05"})


@pytest.mark.parametrize("topic", ["STRASSE", " strasse ", "straße"])
def test_topics_are_compared_as_requests_are_routed(topic: str) -> None:
    assert RequestFilter.from_query({"topic": topic}).topic == "strasse"


def test_a_place_is_read_as_it_was_written() -> None:
    assert Place.from_text(str(PLACE)) == PLACE
    assert len(str(PLACE)) == 33


@pytest.mark.parametrize(
    "text",
    ["", "x", "o", str(PLACE)[1:], f"x{str(PLACE)[1:]}", f"{PLACE}A", "n" + "_" * 32, "n\x00", "ö" * 33, "n" * 9999],
)
def test_a_place_that_makes_no_sense_is_a_mistake(text: str) -> None:
    with pytest.raises(FilterMistake, match="The filter place has to be taken from a link of an earlier page"):
        Place.from_text(text)


def test_counts_are_shown_with_a_plus_when_nobody_counted_further() -> None:
    assert str(Count(number=10_000, is_capped=True)) == "10,000+"
    assert str(Count(number=9_999)) == "9,999"
