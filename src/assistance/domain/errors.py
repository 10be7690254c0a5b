"""Errors of the flow, one sentence each, grouped by who can act on them."""

from __future__ import annotations


class AssistanceError(Exception):
    """Something this project knows how to explain; its text is one sentence fit for a user."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or type(self).__name__).strip())


class SettingsError(AssistanceError):
    """A setting or the configuration file is wrong; an operator has to mend it."""


class SchemaMismatch(AssistanceError):
    """The database holds another schema version than this program needs."""


class DatabaseUnavailable(AssistanceError):
    """The database did not answer in time; try again later."""


class CommitUnknown(DatabaseUnavailable):
    """The database went silent while it was committing: the change may have been stored."""


class BrokerUnavailable(AssistanceError):
    """The message broker cannot be reached; outbox rows wait until it returns."""


class UndecodableMessage(AssistanceError):
    """A message is not one of ours, or of a version that this program does not know."""


class UnknownTopic(AssistanceError):
    """No such topic is configured."""

    def __init__(self, topic: str, known: tuple[str, ...]) -> None:
        super().__init__(f"No topic {topic!r} is configured.")
        self.topic = topic
        self.known = known


class IdempotencyKeyReused(AssistanceError):
    """This Idempotency-Key was used before with another request body."""


class NotReplayable(AssistanceError):
    """This dead letter cannot be replayed."""


class NotHeld(AssistanceError):
    """This delivery does not wait for an operator."""


class OutboxFull(AssistanceError):
    """Too many deliveries of this topic's channels wait already; try again later."""

    def __init__(self, retry_after_seconds: float) -> None:
        super().__init__()
        self.retry_after_seconds = retry_after_seconds
