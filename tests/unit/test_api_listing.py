"""What `GET /assistance` promises: pages that can be walked, and no parameter that silently counts for nothing."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from assistance.api.listing import Cursor, cursor_of
from assistance.status.pages import Place, Wanted
from tests.memory_door import MemoryDoor

GOOD = {"topic": "sales", "description": "x"}


@pytest.fixture
def door() -> MemoryDoor:
    return MemoryDoor()


@pytest.fixture
def client(door: MemoryDoor) -> FlaskClient:
    return door.app().test_client()


def test_pages_are_walked_by_their_links_while_new_requests_arrive(client: FlaskClient) -> None:
    ids = [client.post("/assistance", json=GOOD).get_json()["id"] for _ in range(5)]
    seen: list[str] = []
    address: str | None = "/assistance?limit=2&topic=Sales"
    while address is not None:
        response = client.get(address)
        page = response.get_json()
        seen += [found["id"] for found in page["data"]]
        client.post("/assistance", json=GOOD)
        link = re.fullmatch(r'<(.+)>; rel="next"', response.headers.get("Link", ""))
        assert (link is None) == (page["next_cursor"] is None)
        address = link[1] if link else None
        assert address is None or ("topic=Sales" in address and page["next_cursor"] in address)
    assert seen == ids[::-1]


def test_an_item_is_what_the_request_itself_shows_without_its_deliveries(client: FlaskClient) -> None:
    location = client.post("/assistance", json={**GOOD, "title": "Quote", "metadata": {"order": "7"}}).headers[
        "Location"
    ]
    alone = client.get(location).get_json()
    del alone["deliveries"]
    assert client.get("/assistance").get_json() == {"data": [alone], "next_cursor": None}
    assert (alone["title"], alone["priority"], alone["metadata"]) == ("Quote", "normal", {"order": "7"})
    assert client.get(alone["links"]["events"]).status_code == 200


def test_every_filter_reaches_the_flow_as_it_was_meant(door: MemoryDoor, client: FlaskClient) -> None:
    query = {
        "status": "undeliverable",
        "topic": " SALES ",
        "customer": "cus 42&x",
        "dedup_key": "é",
        "created_after": "2026-03-04T15:02:00+01:00",
        "created_before": "2026-03-04T14:02:00.5Z",
        "limit": "200",
    }
    assert client.get("/assistance", query_string=query).status_code == 200
    assert client.get("/assistance").status_code == 200
    two_past_two = datetime(2026, 3, 4, 14, 2, tzinfo=UTC)
    assert door.reading.wanted == [
        Wanted(
            limit=200,
            client=None,
            status="undeliverable",
            topic="sales",
            customer_id="cus 42&x",
            dedup_key="é",
            created_after=two_past_two,
            created_before=two_past_two + timedelta(seconds=0.5),
        ),
        Wanted(limit=50, client=None),
    ]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=-1", "limit"),
        ("limit=1e2", "limit"),
        ("limit=%D9%A1", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("limit=", "limit"),
        ("limit=1&limit=2", "limit"),
        ("status=done", "status"),
        ("status=", "status"),
        ("topic=" + "a" * 65, "topic"),
        ("topic=%00", "topic"),
        ("customer=a%0Ab", "customer"),
        ("customer=", "customer"),
        ("dedup_key=%00", "dedup_key"),
        ("created_after=yesterday", "created_after"),
        ("created_after=2026-03-04", "created_after"),
        ("created_after=2026-03-04T14:02:00", "created_after"),
        ("created_after=2026-03-04T14:02:00+01:00", "created_after"),
        ("created_before=2026-02-30T14:02:00Z", "created_before"),
        ("created_before=0001-01-01T00:00:00%2B01:00", "created_before"),
        ("cursor=x", "cursor"),
        ("cursor=" + "_" * 32, "cursor"),
        ("cursor=" + "A" * 31 + "=", "cursor"),
        ("cursor=", "cursor"),
        ("state=delivered", "'state' is known here. Did you mean status?"),
        ("q=x", "'q'"),
        ("%00=x", "'\N{REPLACEMENT CHARACTER}'"),
    ],
)
def test_a_parameter_that_makes_no_sense_is_refused_by_name(
    door: MemoryDoor, client: FlaskClient, query: str, named: str
) -> None:
    response = client.get(f"/assistance?{query}")
    problem = response.get_json()
    assert (response.status_code, problem["code"]) == (400, "invalid-parameter")
    assert named in problem["detail"]
    assert len(problem["detail"]) < 300
    assert door.reading.wanted == []


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def test_bytes_that_are_no_query_are_refused(client: FlaskClient) -> None:
    response = client.get("/assistance", environ_overrides={"QUERY_STRING": "topic=\xce\x14"})
    assert (response.status_code, response.get_json()["code"]) == (400, "invalid-parameter")


INSTANTS = st.integers(0, 253_402_300_799_999_999).map(
    lambda microseconds: EPOCH + timedelta(microseconds=microseconds)
)


@given(created_at=INSTANTS, name=st.uuids())
def test_a_cursor_names_its_place_to_the_microsecond(created_at: datetime, name: UUID) -> None:
    place = Place(created_at=created_at, id=name)
    word = cursor_of(place)
    assert re.fullmatch(r"[A-Za-z0-9_-]{32}", word)
    assert Cursor().check(word) == place
