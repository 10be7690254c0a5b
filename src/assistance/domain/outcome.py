"""The closed set of endings: what a channel answers to a send and to a look-up.

A channel type maps its provider's answers to these values; nobody else reads a provider's codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

#: The code of an answer that a channel type gives without a call, because its deadline had passed: its worker was too
#: slow or stood still. It says nothing about the provider.
NO_TIME = "no_time"


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivered:
    """The provider took it; `receipt` is the provider's own proof (JSON values only)."""

    receipt: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryLater:
    """Certainly not delivered, and worth another try.

    `retry_after_seconds` is set when the provider named a waiting time; such a wait costs no attempt. `answered` is
    false when nobody was there to answer: three of those in a row open the channel's circuit breaker.
    """

    code: str
    detail: str
    retry_after_seconds: float | None = None
    answered: bool = True


class RejectionReason(StrEnum):
    """What would have to change before the same send could succeed."""

    CONTENT = "content"
    DESTINATION = "destination"
    CONFIGURATION = "configuration"
    GONE = "gone"  # the destination says that it wants nothing more, ever; it ends callbacks without a dead letter


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejected:
    """Certainly not delivered, and trying the same again is pointless until somebody acts."""

    code: str
    detail: str
    reason: RejectionReason


@dataclass(frozen=True, kw_only=True, slots=True)
class Unknown:
    """Bytes went out and no clear answer came back: it may or may not have been delivered.

    `answered` is false when no answer came at all; see `RetryLater`.
    """

    code: str
    detail: str
    answered: bool = True


Outcome = Delivered | RetryLater | Rejected | Unknown


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """The look-up found the message at the provider."""

    receipt: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class NotFound:
    """The look-up worked and the message is not there (yet: providers take a moment to settle)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CannotTell:
    """The look-up gave no answer.

    `look_again` says that a later look may answer (the provider is down or asks to wait); without it the
    channel cannot be looked up at all. `answered` is false when no answer came; see `RetryLater`.
    """

    code: str
    detail: str
    look_again: bool = False
    retry_after_seconds: float | None = None
    answered: bool = True


Lookup = Found | NotFound | CannotTell
