"""Saved views: filters that somebody gave a name to, for himself or for everybody."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from werkzeug.test import TestResponse

from assistance.domain.operator import Role
from tests.builders import World
from tests.console_tools import Browser, signed_in, text_of

LIST = "/console/requests"


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    opened = World(database_url)
    yield opened
    opened.close()


def save(browser: Browser, name: str, query: str = "", **form: str) -> TestResponse:
    return browser.act(f"{LIST}/views?{query}", {"name": name, **form}, page=LIST)


def views(browser: Browser) -> dict[str, str]:
    """The saved views that the page offers, with their addresses."""
    html = browser.get(LIST).get_data(as_text=True)
    return dict(re.findall(r'<a href="[^"?]*\?([^"]*)"><bdi>([^<]*)</bdi></a>', html))


def test_a_view_keeps_the_filter_and_the_order_for_its_owner_alone(world: World) -> None:
    ada, bob = signed_in(world, name="ada"), signed_in(world, name="bob")
    answer = save(ada, "  Old   sales ", "status=accepted&topic=Sales&order=oldest&q=")
    assert answer.status_code == 303
    assert "The view is saved." in text_of(ada.get(answer.location))
    assert views(ada) == {"status=accepted&amp;topic=sales&amp;order=oldest": "Old sales"}
    assert views(bob) == {}
    save(ada, "Old sales", "status=expired")
    assert views(ada) == {"status=expired": "Old sales"}


def test_what_everybody_sees_is_for_operators_to_change_and_in_the_audit_log(world: World) -> None:
    ada, viewer = signed_in(world, name="ada"), signed_in(world, Role.VIEWER, name="vic")
    assert save(viewer, "Mine", "status=expired").status_code == 303
    assert save(viewer, "Ours", "status=expired", shared="1").status_code == 403
    save(ada, "Ours", "status=cancelled", shared="1")
    assert views(viewer) == {"status=expired": "Mine", "status=cancelled": "Ours"}
    (shared,) = world.rows("SELECT id FROM saved_views WHERE owner IS NULL")
    (own,) = world.rows("SELECT id FROM saved_views WHERE owner = 'vic'")
    assert viewer.act(f"{LIST}/views/{shared.id}/delete", page=LIST).status_code == 404
    assert ada.act(f"{LIST}/views/{own.id}/delete", page=LIST).status_code == 404
    assert ada.act(f"{LIST}/views/{shared.id}/delete", page=LIST).status_code == 303
    assert viewer.act(f"{LIST}/views/{own.id}/delete", page=LIST).status_code == 303
    assert views(viewer) == {}
    logged = world.rows("SELECT actor, action FROM audit WHERE subject_kind = 'view' ORDER BY id")
    assert [(row.actor, row.action) for row in logged] == [("ada", "save"), ("ada", "delete")]


def test_a_view_without_a_name_or_with_a_wrong_filter_is_not_saved(world: World) -> None:
    ada = signed_in(world)
    for name, query, status in (
        ("", "", 409),
        (" \t", "", 409),
        ("x" * 61, "", 409),
        ("Wrong", "since=yesterday", 400),
    ):
        assert save(ada, name, query).status_code == status
    assert world.count("saved_views") == 0


def test_a_name_full_of_markup_is_shown_as_text(world: World) -> None:
    ada = signed_in(world)
    save(ada, '<b onload="x">\u202e', "status=expired")
    html = ada.get(LIST).get_data(as_text=True)
    assert "<b onload" not in html
    assert "&lt;b onload=&#34;x&#34;&gt;" in html


def test_nobody_keeps_more_than_a_hundred_views(world: World) -> None:
    world.execute(
        "INSERT INTO saved_views (owner, page, name, query)"
        " SELECT 'the-operator', 'requests', 'view ' || n, '' FROM generate_series(1, 100) n"
    )
    ada = signed_in(world)
    assert "There are 100 views already" in text_of(save(ada, "One more"))
    assert save(ada, "view 7", "status=expired").status_code == 303
    assert world.count("saved_views") == 100
    huge = ada.act(f"{LIST}/views/{2**70}/delete", page=LIST)
    assert huge.status_code == 404
