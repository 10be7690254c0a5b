"""`on_unknown` from the configuration file to what people read, at real fakes of the providers."""

from __future__ import annotations

import quopri
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from assistance.configuration import load_configuration
from assistance.testing.behaviour import Trouble
from assistance.testing.slack_server import FakeSlack
from assistance.testing.smtp_server import FakeSmtp
from tests.builders import Line, World

_COMMON = """
settle = "10ms"
timeout = "2s"
retry = "quick"
pace = "100/s"
on_unknown = "{on_unknown}"

[retry.quick]
delays = ["10ms"]

[topics]
help = "people"
"""
_EMAIL = """
[channels.people]
type = "email"
url = "{url}"
from = "Assistance <assistance@example.com>"
to = ["help@example.com"]
"""
_SLACK = """
[channels.people]
type = "slack"
token = "env:FAKE_TOKEN"
channel = "C024BE91L"
api_url = "{url}"
"""

Start = Callable[..., Line]


@pytest.fixture
def start(tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts the whole line over a configuration file whose only channel is `people`."""
    monkeypatch.setenv("FAKE_TOKEN", "xoxb-fake")
    made: list[Line] = []

    def begin(channel: str, *, on_unknown: str, url: str) -> Line:
        file = tmp_path / "assistance.toml"
        file.write_text((channel + _COMMON).format(on_unknown=on_unknown, url=url), encoding="utf-8")
        found = load_configuration(file)
        world.configuration = replace(world.configuration, channels=found.channels)
        made.append(Line(world, {"people": found.channels["people"].build()}))
        return made[-1]

    yield begin
    for line in made:
        line.stop()


def submitted(world: World) -> tuple[UUID, str]:
    """The id of a request, and the sentence that its repeat begins with."""
    accepted = world.submit()
    return accepted.id, f"May repeat {accepted.ref}: an earlier try ended without a clear answer."


def is_held(world: World, request: UUID) -> Callable[[], bool]:
    return lambda: world.delivery(request).held_at is not None


def is_delivered(world: World, request: UUID) -> Callable[[], bool]:
    return lambda: bool(world.request(request).status == "delivered")


def test_a_mail_that_was_lost_after_the_dot_is_sent_again_and_says_so(world: World, start: Start) -> None:
    with FakeSmtp() as server:
        server.provoke(Trouble.CUT_BY_RST)
        line = start(_EMAIL, on_unknown="resend", url=server.url)
        request, notice = submitted(world)
        line.run_until(is_delivered(world, request))
        first, second = (quopri.decodestring(mail.wire.partition(b"\r\n\r\n")[2]).decode() for mail in server.mails)
        assert "May repeat" not in first
        assert second.startswith(notice)
        assert world.delivery(request).attempt == 2


def test_a_mail_that_was_lost_after_the_dot_is_held_where_the_channel_says_so(world: World, start: Start) -> None:
    with FakeSmtp() as server:
        server.provoke(Trouble.CUT_BY_RST)
        line = start(_EMAIL, on_unknown="hold", url=server.url)
        request, _ = submitted(world)
        line.run_until(is_held(world, request))
        assert len(server.mails) == 1
        assert (world.delivery(request).state, world.delivery(request).attempt) == ("unknown", 1)


@pytest.mark.parametrize("on_unknown", ["resend", "hold"])
def test_a_slack_that_never_shows_its_history_cannot_tell(world: World, start: Start, on_unknown: str) -> None:
    with FakeSlack() as server:
        server.scopes = "chat:write"
        server.provoke(Trouble.CUT_BY_RST)
        line = start(_SLACK, on_unknown=on_unknown, url=server.api_url)
        request, notice = submitted(world)
        line.run_until((is_held if on_unknown == "hold" else is_delivered)(world, request))
        shown = [message["blocks"][0]["text"]["text"] for message in server.messages]
        assert shown[1:] == ([] if on_unknown == "hold" else [notice])
        assert "May repeat" not in shown[0]
