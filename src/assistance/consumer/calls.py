"""Asks a channel type to send and to look up, and keeps the contract where it does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog

from assistance.channels.contract import Channel, DeliveryKey, View
from assistance.consumer.traces import looking_up, sending
from assistance.deliveries.lease import Lease, ToLookUp, ToSend
from assistance.domain.outcome import CannotTell, Lookup, Outcome, Unknown
from assistance.runtime.clock import Deadline, monotonic

log = structlog.get_logger()

#: The call must end well before its lease does, or somebody else would look the message up meanwhile.
_PART_OF_LEASE = 0.8


class Calls:
    """The calls to one channel; made by several threads at once."""

    def __init__(self, name: str, channel: Channel, *, timeout_seconds: float, lease_seconds: float) -> None:
        self._name = name
        self._channel = channel
        self._timeout = timeout_seconds
        self._lease = lease_seconds

    def send(self, view: View, claimed: ToSend) -> Outcome:
        """What became of one try."""
        with sending(self._name, claimed.lease) as tell:
            outcome = self._send(view, claimed)
            tell(outcome)
            return outcome

    def look_up(self, claimed: ToLookUp) -> Lookup:
        """Whether an earlier try arrived."""
        with looking_up(self._name, claimed.lease) as tell:
            lookup = self._look_up(claimed)
            tell(lookup)
            return lookup

    def _send(self, view: View, claimed: ToSend) -> Outcome:
        try:
            rendered = self._channel.render(view)
            destination = self._destination(claimed.destination, claimed.told.thread if claimed.told else None)
            return self._channel.send(rendered, destination, _key(claimed.lease), self._deadline(claimed.lease))
        except Exception as error:
            # A channel type broke its contract. Whether bytes went out is anybody's guess, so nobody guesses.
            log.exception("consumer.channel_raised")
            return Unknown(code="channel_raised", detail=f"The channel type raised {type(error).__name__}.")

    def _look_up(self, claimed: ToLookUp) -> Lookup:
        try:
            destination = self._destination(claimed.destination, claimed.thread)
            return self._channel.lookup(destination, _key(claimed.lease), claimed.since, self._deadline(claimed.lease))
        except Exception as error:
            log.exception("consumer.channel_raised")
            detail = f"The channel type raised {type(error).__name__}."
            return CannotTell(code="channel_raised", detail=detail, look_again=True)

    def _deadline(self, lease: Lease) -> Deadline:
        """When the call must have ended: a process that was stopped since the claim has no time left for it."""
        return Deadline(min(monotonic() + self._timeout, lease.claimed_at + self._lease * _PART_OF_LEASE))

    def _destination(self, own: Mapping[str, Any] | None, thread: Mapping[str, Any] | None) -> Mapping[str, Any]:
        destination = own or self._channel.destination
        return {**destination, "thread": thread} if thread else destination


def _key(lease: Lease) -> DeliveryKey:
    return DeliveryKey(delivery_id=lease.hint.delivery_id, series=lease.hint.series)
