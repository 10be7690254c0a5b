"""Which channels a topic goes to: pure, a table look-up that can explain itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from assistance.configuration import Configuration, fold_topic
from assistance.domain.errors import UnknownTopic
from assistance.domain.route import Route


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Where a request goes, and the version of the file that said so."""

    topic: str
    route: Route
    digest: str
    callbacks: Mapping[str, Any] = field(default_factory=dict)  # what the request keeps about them


def plan(configuration: Configuration, topic: str) -> Plan:
    """The plan for a topic.

    Raises `UnknownTopic`.
    """
    folded = fold_topic(topic)
    route = configuration.topics.get(folded)
    if route is None:
        raise UnknownTopic(topic, tuple(sorted(configuration.topics)))
    return Plan(topic=folded, route=route, digest=configuration.digest)
