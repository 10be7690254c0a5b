"""What leads a process to each fault point: what is asked for, and what the third parties do wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Scenario:
    """What leads to a point: the topic asked for and what else is said, and what the third parties do wrong."""

    topic: str = "both"
    said: dict[str, Any] = field(default_factory=dict)
    status: str = "delivered"
    orders: dict[str, Any] = field(default_factory=dict)
    hook_status: int = 422
    hints_get_lost: bool = False
    is_replayed: bool = False  # by an operation, once everything has ended
    seconds_between: float = 0.05


PLAIN = Scenario()
#: The one that is killed must be one that Slack has: only there a second message is a broken promise.
_SLACK = Scenario(topic="sales")
#: Such a request is never stored together with others.
ALONE = Scenario(said={"expires_at": "2099-01-01T00:00:00Z"})
_DEATH = Scenario(topic="hook", status="undeliverable")
_FALLBACK = Scenario(topic="slow", hook_status=503, seconds_between=0.1)
_REPLAYED = Scenario(topic="hook", status="undeliverable", is_replayed=True)
SCENARIOS = {
    "api.after_request_insert": ALONE,
    "api.before_commit": ALONE,
    "consumer.after_send": _SLACK,
    "consumer.before_settled": _SLACK,
    "consumer.before_retry": Scenario(orders={"smtp": {"refuse_next": 5}}),
    "consumer.after_look": Scenario(orders={"slack": {"fail_next": 5, "with": "internal_error"}}),
    "consumer.before_burial": _DEATH,
    "consumer.before_reject": _DEATH,
    "timers.before_commit": _FALLBACK,
    "timers.after_commit": _FALLBACK,
    "recorder.before_commit": _DEATH,
    "recorder.after_commit": _DEATH,
    "operations.before_commit": _REPLAYED,
    "operations.after_commit": _REPLAYED,
    "conciliation.before_rearm": Scenario(hints_get_lost=True),
    "conciliation.before_commit": Scenario(hints_get_lost=True),
    "conciliation.after_rearm": Scenario(hints_get_lost=True),
}
