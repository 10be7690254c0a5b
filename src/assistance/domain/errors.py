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


class Unmappable(AssistanceError):
    """A signed message cannot be made into a request as its source is configured."""


class Unauthenticated(AssistanceError):
    """Nobody can tell who calls: there is no credential, or none that is worth anything.

    `reason` is a word for counting, `client` whose credential it was, if that is known. Callers are told neither.
    """

    def __init__(self, reason: str, client: str | None = None) -> None:
        super().__init__("A credential is needed.")
        self.reason = reason
        self.client = client


class IssuerUnavailable(AssistanceError):
    """The keys of the token's issuer cannot be had at the moment; try again later."""


class ClientError(AssistanceError):
    """A client or a key cannot be changed as asked."""


class NotReplayable(AssistanceError):
    """This dead letter cannot be replayed."""


class NotHeld(AssistanceError):
    """This delivery does not wait for an operator."""


class NotCancellable(AssistanceError):
    """This request is over: there is nothing to cancel."""


class NotReroutable(AssistanceError):
    """Nothing of this request waits for another channel."""


class UnknownChannel(AssistanceError):
    """No such channel is configured."""


class UnknownOperation(AssistanceError):
    """There is no such operation."""


class OperationOver(AssistanceError):
    """The operation is not in a state that allows this."""


class CountMoved(AssistanceError):
    """What an operation would act on is not what was on screen any more."""

    def __init__(self, message: str, *, shown: int, found: int) -> None:
        super().__init__(message)
        self.shown = shown
        self.found = found


class NotOpen(AssistanceError):
    """This request was called off: nobody is told anything more of it."""


class AlreadyExpired(AssistanceError):
    """The request would have expired before it was stored."""


class UrlRefused(AssistanceError):
    """Nothing is sent to this URL."""

    def __init__(self, message: str, member: str) -> None:
        super().__init__(message)
        self.member = member  # of the body that named it


class WebhookExists(AssistanceError):
    """There is a webhook with this URL already."""


class TooManyWebhooks(AssistanceError):
    """There are as many webhooks as a client may have."""


class OutboxFull(AssistanceError):
    """Too many deliveries of this topic's channels wait already; try again later."""

    def __init__(self, retry_after_seconds: float) -> None:
        super().__init__()
        self.retry_after_seconds = retry_after_seconds


class QuotaExceeded(AssistanceError):
    """This client has as many open requests as it may have; try again when some of them have ended."""

    def __init__(self, retry_after_seconds: float) -> None:
        super().__init__()
        self.retry_after_seconds = retry_after_seconds
