"""Which channels a topic goes to: pure, a table look-up that can explain itself."""

from __future__ import annotations

from dataclasses import dataclass

from assistance.configuration import Configuration, fold_topic
from assistance.domain.errors import UnknownTopic
from assistance.domain.route import Route


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Where a request goes, and the version of the file that said so."""

    topic: str
    route: Route
    digest: str


def plan(configuration: Configuration, topic: str) -> Plan:
    """The plan for a topic.

    Raises `UnknownTopic`.
    """
    folded = fold_topic(topic)
    route = configuration.topics.get(folded)
    if route is None:
        raise UnknownTopic(topic, tuple(sorted(configuration.topics)))
    return Plan(topic=folded, route=route, digest=configuration.digest)
