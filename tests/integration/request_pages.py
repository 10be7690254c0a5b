"""What tests of the page of one request say to it, and read there."""

from __future__ import annotations

from assistance.domain.answers import Accepted
from assistance.domain.outcome import Rejected, RejectionReason
from tests.builders import World
from tests.console_tools import Browser, text_of

REFUSED = Rejected(code="not_in_channel", detail="The bot is not in the channel.", reason=RejectionReason.CONTENT)


def page(browser: Browser, request: Accepted) -> str:
    answer = browser.get(f"/console/requests/{request.ref}")
    assert answer.status_code == 200, text_of(answer)
    return answer.get_data(as_text=True)


def text_on(browser: Browser, request: Accepted) -> str:
    return text_of(browser.get(f"/console/requests/{request.ref}"))


def in_order(text: str, *parts: str) -> bool:
    places = [text.find(part) for part in parts]
    return -1 not in places and places == sorted(places)


def letter_of(world: World, request: Accepted) -> str:
    """The words of the timeline for the request's newest dead letter."""
    delivery = world.delivery(request.id).id
    return f"Dead letter {max(letter.id for letter in world.letters() if letter.delivery_id == delivery)}"


def dead(world: World) -> Accepted:
    request = world.submit()
    world.deliver(request.id, REFUSED)
    return request
