"""The list of requests: filters in the address, saved views, and the way to act on many at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

import flask
from sqlalchemy import Connection

from assistance.console import request_acts, request_page, requests_bulk, requests_csv, requests_views
from assistance.console.desk import Desk
from assistance.console.remembering import Remembered
from assistance.console.requests_query import (
    LIST,
    OLDEST,
    ORDER,
    PLACE,
    filter_query,
    is_oldest_first,
    wanted_filter,
    wanted_place,
    with_query,
)
from assistance.console.saved_views import View, views_of
from assistance.console.showing import is_refresh, show
from assistance.console.signing_in import the_operator
from assistance.domain.delivery import CALLBACKS, DeliveryState
from assistance.domain.operator import Role
from assistance.domain.request import RequestStatus
from assistance.search.filters import HELD, RETRYING, RequestFilter
from assistance.search.place import Count
from assistance.search.requests import count_requests, find_requests

PAGE = "requests"
_ROWS = 50
_REFRESH_SECONDS = 10
#: What people look for most, as filters.
PRESETS: tuple[tuple[str, Mapping[str, str]], ...] = (
    ("Waiting > 5 min", {"status": RequestStatus.ACCEPTED, "older_than": "5m"}),
    ("Retrying", {"delivery_state": RETRYING}),
    ("Held", {"delivery_state": HELD}),
    ("Dead today", {"status": RequestStatus.UNDELIVERABLE, "since": "24h"}),
    ("Slowest today", {"slower_than": "5m", "since": "24h"}),
)


class Beside(NamedTuple):
    """What stands beside the rows: how many match in all, and the saved views."""

    matching: Count
    views: tuple[View, ...]


def add_routes(blueprint: flask.Blueprint, desk: Desk) -> None:
    """`/console/requests`, and what belongs to the list."""
    requests_bulk.add_routes(blueprint, desk)
    requests_csv.add_routes(blueprint, desk)
    requests_views.add_routes(blueprint, desk)
    request_page.add_routes(blueprint, desk)
    request_acts.add_routes(blueprint, desk)
    remembered: Remembered[Beside] = Remembered()

    @blueprint.get("/requests")
    def requests_page() -> flask.Response:
        wanted, query, place = wanted_filter(), filter_query(), wanted_place()
        oldest_first = is_oldest_first()
        with desk.database.look(desk.deadline()) as connection:
            found = find_requests(connection, wanted, limit=_ROWS, place=place, oldest_first=oldest_first)
            beside = _beside(connection, remembered, wanted)
        may_act = the_operator().role.holds(Role.OPERATOR)
        return show(
            "requests.html",
            title=f"Requests ({beside.matching})",
            rows=found.rows,
            count=beside.matching,
            views=beside.views,
            wanted=wanted.to_query(),
            written=query,
            presets=[(name, with_query(LIST, preset), preset == wanted.to_query()) for name, preset in PRESETS],
            choices=_choices(desk),
            may_act=may_act,
            sees_text=the_operator().sees_text,
            oldest_first=oldest_first,
            other_order_url=with_query(LIST, _in_other_order(query, oldest_first=oldest_first)),
            newer_url=_page_url(query, found.newer),
            older_url=_page_url(query, found.older),
            further_url=_page_url(query, found.looked_until),
            looked_until=found.looked_until,
            start_url=with_query(LIST, query) if place is not None else None,
            clear_url=LIST,
            without_times_url=_at_any_time(query),
            csv_url=with_query(f"{LIST}.csv", query),
            confirm_url=with_query(f"{LIST}/confirm", query),
            save_url=with_query(f"{LIST}/views", query),
            of_list=f"?{urlencode(query)}" if query else "",
            api_url=flask.request.host_url.rstrip("/"),
            refresh_seconds=_REFRESH_SECONDS,
            steady=True,
        )


def _beside(connection: Connection, remembered: Remembered[Beside], wanted: RequestFilter) -> Beside:
    """Read anew for a page that somebody asks for, now and then for one that refreshes itself."""
    name = the_operator().name

    def read() -> Beside:
        return Beside(count_requests(connection, wanted), tuple(views_of(connection, PAGE, name)))

    return remembered.get((name, urlencode(wanted.to_query())), read, is_fresh_wanted=not is_refresh())


def _choices(desk: Desk) -> Mapping[str, Any]:
    """What the fields of the filter offer; topics and channels that left the file can still be typed in the address."""
    configuration = desk.configuration()
    return {
        "status": [*RequestStatus],
        "topic": sorted(configuration.topics),
        "channel": [name for name in sorted(configuration.channels) if name != CALLBACKS] + [CALLBACKS],
        "delivery_state": [*DeliveryState, HELD, RETRYING],
    }


def _in_other_order(query: Mapping[str, str], *, oldest_first: bool) -> dict[str, str]:
    rest = {name: text for name, text in query.items() if name != ORDER}
    return rest if oldest_first else {**rest, ORDER: OLDEST}


def _at_any_time(query: Mapping[str, str]) -> str | None:
    """The list without a span of time; none when the filter names none."""
    rest = {name: text for name, text in query.items() if name not in ("since", "until")}
    return None if rest == query else with_query(LIST, rest)


def _page_url(query: Mapping[str, str], place: object) -> str | None:
    return None if place is None else with_query(LIST, {**query, PLACE: str(place)})
