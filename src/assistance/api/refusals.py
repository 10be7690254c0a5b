"""The one place where an exception becomes an answer."""

from __future__ import annotations

import math
from collections.abc import Mapping

import flask
import structlog
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from assistance.api.answers import json_answer
from assistance.api.observing import request_id
from assistance.api.problem_types import (
    BAD_REQUEST,
    COMMIT_UNKNOWN,
    IDEMPOTENCY_KEY_REUSED,
    INTERNAL_ERROR,
    ISSUER_UNAVAILABLE,
    METHOD_NOT_ALLOWED,
    NOT_CANCELLABLE,
    NOT_FOUND,
    NOT_OPEN,
    OUTBOX_FULL,
    QUOTA_EXCEEDED,
    STORAGE_UNAVAILABLE,
    TOO_MANY_WEBHOOKS,
    UNAUTHENTICATED,
    WEBHOOK_EXISTS,
    ProblemType,
)
from assistance.api.problems import CONTENT_TYPE, Problem
from assistance.api.schema.submission import mistaken, unknown_topic
from assistance.domain.errors import (
    AlreadyExpired,
    AssistanceError,
    CommitUnknown,
    DatabaseUnavailable,
    IdempotencyKeyReused,
    IssuerUnavailable,
    NotCancellable,
    NotOpen,
    OutboxFull,
    QuotaExceeded,
    TooManyWebhooks,
    Unauthenticated,
    UnknownTopic,
    UrlRefused,
    WebhookExists,
)
from assistance.tracing.spans import current

log = structlog.get_logger()

_RETRY_AFTER_SECONDS = 2
#: What the flow refuses in a sentence that says it all.
_REFUSALS: Mapping[type[AssistanceError], ProblemType] = {
    IdempotencyKeyReused: IDEMPOTENCY_KEY_REUSED,
    NotCancellable: NOT_CANCELLABLE,
    NotOpen: NOT_OPEN,
    WebhookExists: WEBHOOK_EXISTS,
    TooManyWebhooks: TOO_MANY_WEBHOOKS,
}


def answer_every_exception(app: flask.Flask) -> None:
    """Turn whatever is raised while a call is answered into a problem document."""

    @app.errorhandler(Exception)
    def refuse(error: Exception) -> flask.Response:
        problem = problem_for(error, storing=flask.request.method == "POST")
        document = problem.document(path=flask.request.path, request_id=request_id())
        answer = json_answer(document, http_status=problem.kind.http_status, content_type=CONTENT_TYPE)
        answer.headers.update(problem.headers)
        return answer


def problem_for(error: Exception, *, storing: bool) -> Problem:
    """The problem that tells the caller about an exception; an unforeseen one is logged and never shown.

    `storing` says that the call was to store something: only then may a lost commit have accepted it.
    """
    match error:
        case Problem():
            return error
        case HTTPException():
            return _problem_for_http(error)
        case AssistanceError() if problem := _refusal(error) or _trouble(error, storing=storing):
            return problem
        case _:
            log.error("api.failed", exc_info=error)
            current().raised(error)
            return Problem(INTERNAL_ERROR, "The service failed; the fault is not in the request.")


def _refusal(error: AssistanceError) -> Problem | None:
    """The problem for what the caller has to mend."""
    match error:
        case Unauthenticated():
            # Word for word the same whatever is wrong with the credential: the reason is for the operator.
            return Problem(UNAUTHENTICATED, str(error), headers={"WWW-Authenticate": "Bearer"})
        case UnknownTopic():
            return unknown_topic(error.topic, error.known)
        case AlreadyExpired():
            return mistaken("/expires_at", "past", "The expires_at lies in the past.")
        case UrlRefused():
            return mistaken(f"/{error.member}", "url-refused", str(error))
    kind = _REFUSALS.get(type(error))
    return Problem(kind, str(error)) if kind else None


def _trouble(error: AssistanceError, *, storing: bool) -> Problem | None:
    """The problem for what time mends."""
    match error:
        case QuotaExceeded():
            return Problem(QUOTA_EXCEEDED, str(error), headers=_retry_after(error.retry_after_seconds))
        case OutboxFull():
            return Problem(OUTBOX_FULL, str(error), headers=_retry_after(error.retry_after_seconds))
        case IssuerUnavailable():
            return Problem(ISSUER_UNAVAILABLE, str(error), headers=_retry_after(_RETRY_AFTER_SECONDS))
        case CommitUnknown() if storing:
            detail = "The request may have been accepted. Repeat it with the same Idempotency-Key to be sure."
            return Problem(COMMIT_UNKNOWN, detail, headers=_retry_after(_RETRY_AFTER_SECONDS))
        case DatabaseUnavailable():
            detail = "The database does not answer; nothing was stored by this call."
            return Problem(STORAGE_UNAVAILABLE, detail, headers=_retry_after(_RETRY_AFTER_SECONDS))
    return None


def _problem_for_http(error: HTTPException) -> Problem:
    match error:
        case NotFound():
            return Problem(NOT_FOUND, "Nothing is served at this path.")
        case MethodNotAllowed():
            methods = ", ".join(sorted(error.valid_methods or ()))
            return Problem(METHOD_NOT_ALLOWED, f"This path takes {methods}.", headers={"Allow": methods})
        case _ if (error.code or 500) < 500:
            return Problem(BAD_REQUEST, "The request line or a header cannot be understood.")
        case _:
            log.error("api.failed", exc_info=error)
            current().raised(error)
            return Problem(INTERNAL_ERROR, "The service failed; the fault is not in the request.")


def _retry_after(seconds: float) -> dict[str, str]:
    return {"Retry-After": str(max(1, math.ceil(seconds)))}
