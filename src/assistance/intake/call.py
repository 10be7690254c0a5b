"""One call for assistance on its way into the tables: what was asked, by whom, and where it goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from assistance.domain.answers import IdempotencyKey
from assistance.domain.request import Submission
from assistance.domain.route import freeze_steps
from assistance.intake.routing import Plan
from assistance.tracing.context import TRACEPARENT


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A checked submission with its plan."""

    client: str
    submission: Submission
    plan: Plan
    key: IdempotencyKey | None
    traceparent: str | None = None  # the trace that it belongs to

    @property
    def is_plain(self) -> bool:
        """Whether it begins at once, joins nothing and does not expire: then it can be stored without a look."""
        said = self.submission
        return said.dedup_key is None and said.not_before is None and said.expires_at is None

    def columns(self, *, begins_later: bool = False) -> dict[str, Any]:
        """What the request's row says of it, in values that JSON can hold but for its instants."""
        said = self.submission
        return {
            "client": self.client,
            "topic": self.plan.topic,
            "route": self._frozen(with_steps=begins_later),
            "description": said.description,
            "title": said.title,
            "priority": said.priority,
            "customer_id": said.customer.get("id"),
            "customer": said.customer,
            "bot": said.bot,
            "conversation_id": said.conversation.get("id"),
            "conversation": said.conversation,
            "transcript": said.transcript,
            "attachments": said.attachments,
            "metadata": said.metadata,
            "dedup_key": said.dedup_key,
            "open_dedup_key": said.dedup_key,
            "not_before": said.not_before,
            "expires_at": said.expires_at,
            "callback_url": said.callback_url,
        }

    def _frozen(self, *, with_steps: bool) -> dict[str, Any]:
        """What the request keeps of its plan and of its trace; the steps only where several are or none begins now."""
        steps = self.plan.route.steps
        plan_of_steps = {"steps": freeze_steps(steps)} if with_steps or len(steps) > 1 else {}
        trace = {TRACEPARENT: self.traceparent} if self.traceparent else {}
        return {
            "topic": self.plan.topic,
            "configuration": self.plan.digest,
            **plan_of_steps,
            **self.plan.callbacks,
            **trace,
        }
