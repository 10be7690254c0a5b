"""The promises of `channels.contract.Channel` as a test class; every channel type passes it.

Subclass it in a test file, name the subclass `Test…`, and write the fixtures `provider` (a fake that is running) and
`channel` (built from your type's options, pointed at the provider).
"""

# ruff: noqa: D102 (a test's name is its sentence)
from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID, uuid4

import pytest
from pydantic import ValidationError

from assistance.channels.contract import Channel, ChannelType, DeliveryKey, Rendered, View
from assistance.domain.outcome import (
    CannotTell,
    Delivered,
    Found,
    NotFound,
    Outcome,
    Rejected,
    RejectionReason,
    RetryLater,
    Unknown,
)
from assistance.domain.request import AssistanceRequest, Priority
from assistance.runtime.clock import Deadline, monotonic, utc_now
from assistance.testing.behaviour import Provider, Trouble

_PATIENCE = 1.0  # seconds that a call may be late on a busy machine
_TAKEN_BUT_UNANSWERED = (Trouble.CUT_BY_FIN, Trouble.CUT_BY_RST, Trouble.SILENT, Trouble.DRIP, Trouble.GARBAGE)
_AWKWARD = (
    "",
    " ",
    "\n",
    "\t\n",
    "%s{0}",
    "é" * 4_000,
    "&" * 4_000,
    "😀" * 4_000,
    "a" * 4_000,
    "-- \n.\n..\n",
    "\ud800",
)


def example_view(description: str = "My invoice is wrong.", *, late_seconds: float = 0, **members: Any) -> View:
    """A view of a request such as a bot sends; `members` replace those of the request."""
    members = {
        "id": UUID(int=7),
        "ref": "A-7F3K9Q",
        "topic": "sales",
        "description": description,
        "created_at": datetime(2026, 3, 4, 14, 2, tzinfo=UTC),
        **members,
    }
    return View(request=AssistanceRequest(**members), event_version=1, late_seconds=late_seconds)


def _strings(value: Any) -> Iterator[str]:
    """Every text within a JSON value, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)


def new_key(series: int = 1) -> DeliveryKey:
    """A key that no message carries yet."""
    return DeliveryKey(delivery_id=uuid4(), series=series)


class ChannelContract:
    """What every channel type promises."""

    channel_type: ClassVar[ChannelType]

    #: The seconds that calls get which are expected to use all of them.
    short_seconds: ClassVar[float] = 0.4

    def send(self, channel: Channel, key: DeliveryKey | None = None, *, seconds: float = 5) -> Outcome:
        """Render and send one message."""
        rendered = channel.render(example_view())
        return channel.send(rendered, channel.destination, key or new_key(), Deadline.after(seconds))

    def test_a_message_that_the_provider_takes_is_delivered_with_a_receipt(
        self, channel: Channel, provider: Provider
    ) -> None:
        outcome = self.send(channel)
        assert isinstance(outcome, Delivered), outcome
        assert outcome.receipt
        json.dumps(dict(outcome.receipt))
        assert len(provider.visible) == 1

    def test_rendering_is_pure_and_gives_json_values(self, channel: Channel) -> None:
        view = example_view(late_seconds=720)
        assert channel.render(view) == channel.render(view)
        assert json.loads(json.dumps(dict(channel.render(view).content))) == channel.render(view).content

    @pytest.mark.parametrize("text", _AWKWARD, ids=range(len(_AWKWARD)))
    def test_any_accepted_text_can_be_rendered_and_sent(self, channel: Channel, provider: Provider, text: str) -> None:
        view = example_view(text, topic=text[:64] or "x", customer={"name": text, "email": text, "id": 7})
        rendered = channel.render(view)
        assert isinstance(rendered, Rendered)
        assert "\n" not in rendered.text
        outcome = channel.send(rendered, channel.destination, new_key(), Deadline.after(5))
        assert isinstance(outcome, Delivered), outcome
        assert len(provider.visible) == 1

    def test_the_message_names_topic_and_reference_and_holds_the_whole_description(self, channel: Channel) -> None:
        description = " ".join(f"word{number}" for number in range(500))[: self.channel_type.capabilities.max_text]
        rendered = channel.render(example_view(description, priority=Priority.URGENT))
        shown = json.dumps(dict(rendered.content))
        assert "A-7F3K9Q" in rendered.text
        assert "sales" in rendered.text
        assert "urgent" in shown
        assert all(word in shown for word in description.split())

    def test_a_closed_port_is_certainly_not_sent(self, channel: Channel, provider: Provider) -> None:
        provider.provoke(Trouble.REFUSED)
        outcome = self.send(channel)
        assert isinstance(outcome, RetryLater)
        assert not outcome.answered, "nobody was there: say answered=False, which the circuit breaker counts"
        assert provider.visible == []

    def test_a_busy_provider_is_tried_again_later(self, channel: Channel, provider: Provider) -> None:
        provider.provoke(Trouble.BUSY)
        assert isinstance(self.send(channel), RetryLater)
        assert provider.visible == []
        assert isinstance(self.send(channel), Delivered)

    @pytest.mark.parametrize("trouble", _TAKEN_BUT_UNANSWERED, ids=lambda trouble: trouble.name)
    def test_a_message_without_a_clear_answer_is_unknown_and_sent_only_once(
        self, channel: Channel, provider: Provider, trouble: Trouble
    ) -> None:
        provider.provoke(trouble)
        started = monotonic()
        outcome = self.send(channel, seconds=self.short_seconds)
        assert isinstance(outcome, Unknown), outcome
        assert monotonic() - started < self.short_seconds + _PATIENCE
        assert provider.connections == 1
        assert len(provider.visible) == 1

    def test_a_connection_that_is_cut_unread_leaves_no_message_and_is_no_final_no(
        self, channel: Channel, provider: Provider
    ) -> None:
        provider.provoke(Trouble.CUT_UNREAD)
        outcome = self.send(channel)
        # Whether bytes went out before the reset arrived is a matter of microseconds.
        assert isinstance(outcome, RetryLater | Unknown), outcome
        assert provider.visible == []
        assert provider.connections == 1

    def test_people_read_a_notice_before_the_description_and_machines_get_the_same_body(self, channel: Channel) -> None:
        notice = "May repeat A-7F3K9Q: an earlier try ended without a clear answer."
        plain = example_view("My invoice is wrong.")
        told = channel.render(replace(plain, notices=(notice, "A < B & C")))
        if not self.channel_type.capabilities.for_people:
            assert told == channel.render(plain)
            return
        shown = html.unescape("\n".join(_strings(told.content)))
        body = shown[shown.index(notice) :]
        assert body.index("A < B & C") < body.index("My invoice is wrong.")

    def test_nothing_is_sent_when_the_deadline_has_passed(self, channel: Channel, provider: Provider) -> None:
        assert isinstance(self.send(channel, seconds=0), RetryLater)
        assert provider.connections == 0

    def test_a_destination_of_another_shape_is_rejected_or_ignored(self, channel: Channel) -> None:
        outcome = channel.send(channel.render(example_view()), {"other": 1}, new_key(), Deadline.after(5))
        assert isinstance(outcome, Delivered) or (
            isinstance(outcome, Rejected) and outcome.reason is RejectionReason.DESTINATION
        )

    def test_several_threads_use_one_channel_at_once(self, channel: Channel, provider: Provider) -> None:
        with ThreadPoolExecutor(8) as pool:
            outcomes = list(pool.map(lambda _: self.send(channel), range(24)))
        assert all(isinstance(outcome, Delivered) for outcome in outcomes)
        assert len({json.dumps(dict(o.receipt)) for o in outcomes if isinstance(o, Delivered)}) == 24
        assert len(provider.visible) == 24

    def test_a_lookup_finds_what_was_sent_and_only_that(self, channel: Channel, provider: Provider) -> None:
        key, since = new_key(), utc_now()
        provider.provoke(Trouble.CUT_BY_RST)
        assert isinstance(self.send(channel, key), Unknown)

        def look(key: DeliveryKey) -> object:
            return channel.lookup(channel.destination, key, since, Deadline.after(5))

        if not self.channel_type.capabilities.lookup:
            answer = look(key)
            assert isinstance(answer, CannotTell)
            assert not answer.look_again
            return
        assert isinstance(look(key), Found)
        assert isinstance(look(new_key()), NotFound)
        assert isinstance(look(DeliveryKey(delivery_id=key.delivery_id, series=2)), NotFound)
        provider.provoke(Trouble.REFUSED)
        answer = look(key)
        assert isinstance(answer, CannotTell)
        assert answer.look_again
        assert not answer.answered

    def test_a_lookup_does_not_find_messages_from_long_before(self, channel: Channel) -> None:
        if not self.channel_type.capabilities.lookup:
            pytest.skip("this type cannot look up")
        key = new_key()
        assert isinstance(self.send(channel, key), Delivered)
        later = utc_now() + timedelta(hours=1)
        assert isinstance(channel.lookup(channel.destination, key, later, Deadline.after(5)), NotFound)

    def test_a_check_passes_unnoticed_and_reports_an_unreachable_provider(
        self, channel: Channel, provider: Provider
    ) -> None:
        assert channel.check(Deadline.after(5)).problems == ()
        assert provider.visible == []
        provider.provoke(Trouble.REFUSED)
        assert channel.check(Deadline.after(5)).problems

    def test_unknown_options_are_refused(self) -> None:
        with pytest.raises(ValidationError, match="extra_forbidden"):
            self.channel_type.options.model_validate({"no_such_option": 1})
