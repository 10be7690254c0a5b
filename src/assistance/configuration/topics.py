"""The table `[topics]`: where the requests of each topic go, and where else when that does not help."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from assistance.configuration.mistakes import Mistakes
from assistance.configuration.values import channel_names, did_you_mean, positive_duration
from assistance.domain.route import Route, Step, fold_topic

_LONGEST_TOPIC = 64
_ROUTE_KEYS = ("to", "fallback", "last_resort")
_STEP_KEYS = ("to", "after")


@dataclass
class TopicReader:
    """Reads routes; `channels` are the names that a route may go to."""

    channels: Collection[str]
    mistakes: Mistakes

    def read(self, table: Mapping[str, Any]) -> dict[str, Route]:
        """The routes by folded topic; those with mistakes are told of."""
        topics: dict[str, Route] = {}
        for written, value in table.items():
            where, topic = f"[topics] {written}", fold_topic(written)
            if not 0 < len(topic) <= _LONGEST_TOPIC:
                self.mistakes.tell(where, f"is not a topic: 1 to {_LONGEST_TOPIC} characters")
            if topic in topics:
                self.mistakes.tell(where, "is named twice (topics are compared without case)")
            if isinstance(value, dict):
                topics[topic] = self._route(f"[topics.{written}]", value)
            else:
                topics[topic] = Route(to=self._channels(where, value))
        return topics

    def _route(self, where: str, table: Mapping[str, Any]) -> Route:
        self.mistakes.check_keys(where, table, _ROUTE_KEYS)
        route = Route(
            to=self._channels(f"{where} to", table.get("to")),
            fallback=self._fallback(where, table.get("fallback", [])),
            last_resort=self._channels(f"{where} last_resort", table["last_resort"]) if "last_resort" in table else (),
        )
        self._check_together(where, route)
        return route

    def _fallback(self, where: str, value: object) -> tuple[Step, ...]:
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            self.mistakes.tell(f"{where} fallback", 'is not a list such as [{to = ["channel"], after = "2m"}]')
            return ()
        return tuple(self._step(f"{where} fallback {number}", item) for number, item in enumerate(value, 1))

    def _step(self, where: str, table: Mapping[str, Any]) -> Step:
        self.mistakes.check_keys(where, table, _STEP_KEYS)
        return Step(
            to=self._channels(f"{where} to", table.get("to")),
            after_seconds=self.mistakes.value(f"{where} after", table.get("after"), positive_duration),
        )

    def _channels(self, where: str, value: object) -> tuple[str, ...]:
        names: tuple[str, ...] = self.mistakes.value(where, value, channel_names) or ()
        for name in names:
            if name not in self.channels:
                near = did_you_mean(name, self.channels)
                self.mistakes.tell(where, f"goes to {name!r}, which is not under [channels]{near}")
        return names

    def _check_together(self, where: str, route: Route) -> None:
        for number, (before, step) in enumerate(pairwise(route.fallback), 2):
            if before.after_seconds and step.after_seconds and step.after_seconds <= before.after_seconds:
                self.mistakes.tell(f"{where} fallback {number} after", "must be longer than that of the step before")
        named = [name for step in route.steps for name in step.to]
        for name in sorted({name for name in named if named.count(name) > 1}):
            self.mistakes.tell(where, f"names {name!r} in two steps; a channel belongs into one")
