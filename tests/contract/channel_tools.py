"""What the tests of all channel types share."""

from __future__ import annotations

from typing import Any

from assistance.channels import email
from assistance.channels.contract import Channel, ChannelType, DeliveryKey
from assistance.domain.outcome import Outcome, RejectionReason
from assistance.runtime.clock import Deadline
from assistance.testing.channel_contract import example_view, new_key

TOKEN = "xoxb-fake"
SIGNING_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
CONFIGURATION, DESTINATION, CONTENT = (
    RejectionReason.CONFIGURATION,
    RejectionReason.DESTINATION,
    RejectionReason.CONTENT,
)


def built(channel_type: ChannelType, **options: Any) -> Channel:
    """The channel, from options as they stand in the TOML."""
    return channel_type.build(channel_type.options.model_validate(options))


def mailer(url: str, to: list[str] | None = None) -> Channel:
    """An e-mail channel."""
    sender = "Assistance <assistance@example.test>"
    return built(email.CHANNEL_TYPE, url=url, to=to or ["help@example.test"], **{"from": sender})


def deliver(channel: Channel, *, key: DeliveryKey | None = None, seconds: float = 5) -> Outcome:
    """Send an ordinary message."""
    rendered = channel.render(example_view())
    return channel.send(rendered, channel.destination, key or new_key(), Deadline.after(seconds))


def assert_ended_as(outcome: Outcome, expected: type[Outcome] | RejectionReason) -> None:
    """The outcome is of that kind, or a rejection for that reason."""
    if isinstance(expected, RejectionReason):
        assert getattr(outcome, "reason", None) is expected, outcome
    else:
        assert isinstance(outcome, expected), outcome
