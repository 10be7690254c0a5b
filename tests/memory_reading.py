"""What callers may read of a `MemoryDoor`: pages, timelines, plans, and news for those who wait."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from assistance.api.door import Reading
from assistance.domain.errors import UnknownTopic
from assistance.domain.request import Submission
from assistance.domain.route import Route
from assistance.history.reading import Charts
from assistance.history.spans import window
from assistance.intake.routing import Plan
from assistance.runtime.clock import Deadline
from assistance.status.pages import Page, Place, Wanted
from assistance.status.timeline import PAGE, Event, Timeline
from assistance.status.watching import Glance

if TYPE_CHECKING:
    from tests.memory_door import MemoryDoor


class MemoryReading:
    """`happen` is what makes news."""

    def __init__(self, door: MemoryDoor) -> None:
        self.events: dict[UUID, list[Event]] = {}
        self.wanted: list[Wanted] = []
        self.looks: list[frozenset[UUID]] = []
        self._door = door

    def parts(self) -> Reading:
        return Reading(page=self.page, timeline=self.timeline, plan=self.plan, stats=self.stats, routes=self.routes)

    def happen(self, request_id: UUID, event: str, *, actor: str = "consumer@host:1", **changes: Any) -> None:
        """An event, and with it changes of the request."""
        request = self._door.requests[request_id]
        version = request["state_version"] + 1
        told = self.events.setdefault(request_id, [])
        told.append(Event(version=version, type=event, at=datetime.now(UTC), actor=actor, data={}))
        request.update(changes, state_version=version)

    def page(self, wanted: Wanted, deadline: Deadline) -> Page:
        self._may_fail()
        self.wanted.append(wanted)
        newest_first = sorted(self._door.requests.values(), key=lambda found: (found["created_at"], found["id"]))[::-1]
        places = [Place(created_at=found["created_at"], id=found["id"]) for found in newest_first]
        begin = 0 if wanted.behind is None else places.index(wanted.behind) + 1
        end = begin + wanted.limit
        return Page(requests=newest_first[begin:end], next=places[end - 1] if end < len(places) else None)

    def timeline(self, request_id: UUID, after: int, deadline: Deadline, *, client: str | None) -> Timeline | None:
        self._may_fail()
        request = self._door.requests.get(request_id)
        if request is None:
            return None
        first = Event(version=1, type="assistance.accepted", at=request["created_at"], actor="bot", data={})
        found = [event for event in [first, *self.events.get(request_id, ())] if event.version > after]
        ended = request["ended_at"] is not None
        return Timeline(events=found[:PAGE], has_more=len(found) > PAGE, has_ended=ended)

    def plan(self, submission: Submission, deadline: Deadline, *, client: str) -> Plan:
        self._may_fail()
        route = self.routes().get(submission.topic)
        if route is None:
            raise UnknownTopic(submission.topic, self._door.topics)
        return Plan(topic=submission.topic, route=route, digest="sha256:memory")

    def stats(
        self,
        since: datetime | None,
        until: datetime | None,
        deadline: Deadline,
        *,
        span_seconds: int | None,
        channel: str | None,
    ) -> Charts:
        """Nobody counts here."""
        self._may_fail()
        until = until or datetime.now(UTC)
        wanted = window(since or until - timedelta(hours=1), until, span_seconds)
        return Charts(
            window=wanted, read_at=until, begins=wanted.begins, whole=[None for _ in wanted.begins], channels={}
        )

    def routes(self) -> Mapping[str, Route]:
        return {topic: Route(to=("sales-team",), last_resort=("pager",)) for topic in self._door.topics}

    def glances(self, request_ids: Collection[UUID]) -> dict[UUID, Glance]:
        self._may_fail()
        self.looks.append(frozenset(request_ids))
        found = {name: self._door.requests[name] for name in request_ids if name in self._door.requests}
        return {
            name: Glance(
                version=request["state_version"],
                status=request["handling"] or request["status"],
                has_ended=request["ended_at"] is not None,
            )
            for name, request in found.items()
        }

    def _may_fail(self) -> None:
        if self._door.failure:
            raise self._door.failure
