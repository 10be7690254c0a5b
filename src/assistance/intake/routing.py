"""Which channels a topic goes to: pure, a table look-up that can explain itself."""

from __future__ import annotations

from dataclasses import dataclass

from assistance.configuration import Configuration, fold_topic
from assistance.domain.errors import UnknownTopic


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The channels that must each get the request, and the version of the file that said so."""

    topic: str
    channels: tuple[str, ...]
    digest: str


def plan(configuration: Configuration, topic: str) -> Plan:
    """The plan for a topic.

    Raises `UnknownTopic`.
    """
    folded = fold_topic(topic)
    channels = configuration.topics.get(folded)
    if channels is None:
        raise UnknownTopic(topic, tuple(sorted(configuration.topics)))
    return Plan(topic=folded, channels=channels, digest=configuration.digest)
