"""What can be done on the page of one request, by whom, and what it says afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from assistance.domain.answers import Accepted
from assistance.domain.operator import Role
from assistance.domain.outcome import Unknown
from tests.builders import World
from tests.console_tools import Browser, signed_in, text_of
from tests.integration.request_pages import dead, in_order, letter_of, page, text_on


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    opened = World(database_url, {"help": ("people",), "sales": ("people", "spare")})
    yield opened
    opened.close()


@pytest.fixture
def operator(world: World) -> Browser:
    return signed_in(world)


def act(browser: Browser, request: Accepted, name: str, **form: str) -> str:
    here = f"/console/requests/{request.ref}"
    answer = browser.act(f"{here}/{name}", form, page=here)
    assert answer.status_code == 303, text_of(answer)
    assert answer.location == here
    return text_of(browser.get(here))


def test_a_dead_request_is_replayed_with_a_reason_and_the_timeline_says_who_did_it(
    world: World, operator: Browser
) -> None:
    request = dead(world)
    text = act(operator, request, "replay", reason="The bot was invited.")
    assert "1 put back." in text
    assert in_order(
        text, f"{letter_of(world, request)} on people", "Replay (console)", "by the-operator", "The bot was invited."
    )
    assert f"{letter_of(world, request)} replayed" in text
    assert world.delivery(request.id).state == "pending"
    world.deliver(request.id)
    assert in_order(
        text_on(operator, request), f"{letter_of(world, request)} replayed", "Try 1 of series 2", "People were told"
    )


def test_a_second_replay_does_nothing_and_says_so(world: World, operator: Browser) -> None:
    request = dead(world)
    act(operator, request, "replay")
    here = f"/console/requests/{request.ref}"
    answer = operator.act(f"{here}/replay", page=here)
    assert answer.status_code == 409
    assert "no open dead letter any more" in text_of(answer)
    assert world.delivery(request.id).series == 2


def test_a_waiting_request_is_cancelled_only_with_a_reason(world: World, operator: Browser) -> None:
    request = world.submit()
    here = f"/console/requests/{request.ref}"
    answer = operator.act(f"{here}/cancel", {"reason": "  "}, page=here)
    assert answer.status_code == 400
    assert "Say why" in text_of(answer)
    text = act(operator, request, "cancel", reason="Asked twice.")
    assert "The request is cancelled." in text
    assert in_order(text, "Cancel (console)", "Asked twice.", "Called off")
    assert world.request(request.id).status == "cancelled"
    assert operator.act(f"{here}/cancel", {"reason": "Again."}, page=here).status_code == 303


def test_what_waits_is_moved_to_another_channel(world: World, operator: Browser) -> None:
    request = world.submit()
    text = act(operator, request, "reroute", channel="spare", reason="People is on holiday.")
    assert "What waited goes to spare now." in text
    assert "Moved from people to spare" in text
    assert world.delivery(request.id, "spare").state == "pending"
    assert world.delivery(request.id).state == "cancelled"


def test_a_channel_that_does_not_exist_moves_nothing(world: World, operator: Browser) -> None:
    request = world.submit()
    here = f"/console/requests/{request.ref}"
    answer = operator.act(f"{here}/reroute", {"channel": "nowhere", "reason": "x"}, page=here)
    assert answer.status_code == 409
    assert "nowhere" in text_of(answer)
    assert world.delivery(request.id).state == "pending"


def held(world: World) -> Accepted:
    request = world.submit()
    world.deliver(request.id, Unknown(code="no_answer", detail="The connection broke."))
    world.execute("UPDATE deliveries SET held_at = now() WHERE request_id = :id", id=request.id)
    return request


def test_what_nobody_can_tell_is_settled_by_who_looked(world: World, operator: Browser) -> None:
    for resolution, state in (("delivered", "delivered"), ("resend", "pending"), ("dead", "dead")):
        request = held(world)
        assert "Nobody can tell whether the message reached people." in text_on(operator, request)
        delivery = str(world.delivery(request.id).id)
        text = act(operator, request, "resolve", delivery=delivery, resolution=resolution, reason="I looked.")
        assert f"Settled: {resolution}." in text
        assert in_order(text, "Resolve (console)", "I looked.")
        assert world.delivery(request.id).state == state


def test_a_delivery_of_another_request_is_not_settled_from_here(world: World, operator: Browser) -> None:
    request, other = held(world), held(world)
    here = f"/console/requests/{request.ref}"
    form = {"delivery": str(world.delivery(other.id).id), "resolution": "delivered", "reason": "x"}
    assert operator.act(f"{here}/resolve", form, page=here).status_code == 400
    assert world.delivery(other.id).state == "unknown"


def test_a_viewer_sees_the_request_and_no_way_to_act(world: World) -> None:
    request = dead(world)
    viewer = signed_in(world, Role.VIEWER)
    assert f"{letter_of(world, request)} on people" in text_on(viewer, request)
    assert "/replay" not in page(viewer, request)
    here = f"/console/requests/{request.ref}"
    assert viewer.act(f"{here}/replay", page=here).status_code == 403
    assert world.delivery(request.id).state == "dead"
