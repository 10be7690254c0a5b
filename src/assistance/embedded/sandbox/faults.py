"""Failures on request: what the next calls should answer instead of doing their work."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

SlackFailure = Literal["http_500", "ratelimited", "internal_error", "slow"]
_Count = Annotated[int, Field(ge=0, le=1_000_000)]
_MOST_SECONDS = 60


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class SlackOrders(_Strict):
    """How the next posts to Slack go wrong; `slow` only takes its time and then works.

    `retry_after` and `seconds` are seconds. `conversations` names those that exist; without it all do.
    """

    fail_next: _Count = 0
    kind: SlackFailure = Field(default="http_500", alias="with")
    retry_after: Annotated[int, Field(ge=0, le=86_400)] = 1
    seconds: Annotated[float, Field(ge=0, le=_MOST_SECONDS)] = 15
    conversations: list[str] | None = None


class SmtpOrders(_Strict):
    """How many of the next mails are refused with 451 after their last line."""

    refuse_next: _Count = 0


class Orders(_Strict):
    """The body of `POST /control`; a part that is left out stays as it was."""

    slack: SlackOrders | None = None
    smtp: SmtpOrders | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """What one call should answer."""

    kind: SlackFailure
    retry_after: int
    seconds: float


class Faults:
    """The failures that are still to come. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._slack = SlackOrders()
        self._smtp = SmtpOrders()

    def order(self, orders: Orders) -> None:
        """Replace the orders of the parts that are named."""
        with self._lock:
            self._slack = orders.slack or self._slack
            self._smtp = orders.smtp or self._smtp

    def standing(self) -> Orders:
        """What is still to come."""
        with self._lock:
            return Orders(slack=self._slack, smtp=self._smtp)

    def next_slack_failure(self) -> Failure | None:
        """The failure that this post must show, if any; counts it."""
        with self._lock:
            orders = self._slack
            if orders.fail_next == 0:
                return None
            self._slack = orders.model_copy(update={"fail_next": orders.fail_next - 1})
            return Failure(orders.kind, orders.retry_after, orders.seconds)

    def refuses_next_mail(self) -> bool:
        """Whether this mail must be refused; counts it."""
        with self._lock:
            refuses = self._smtp.refuse_next > 0
            if refuses:
                self._smtp = SmtpOrders(refuse_next=self._smtp.refuse_next - 1)
            return refuses

    def knows_conversation(self, name: str) -> bool:
        """Whether Slack has such a conversation."""
        with self._lock:
            return self._slack.conversations is None or name in self._slack.conversations
