"""What Slack's answers mean, as outcomes; the only reader of Slack's codes.

An `ok: false` is a clear no, with two exceptions that Slack gives after it may have acted. A code that is not listed is
taken for a passing trouble: a new temporary code then costs a few tries, while taking it for permanent would give up
a message that could still arrive.
"""

from __future__ import annotations

from assistance.channels.http import Answer, retry_after_seconds
from assistance.domain.outcome import CannotTell, Rejected, RejectionReason, RetryLater, Unknown

#: Seconds to wait when Slack asks to slow down without saying (readably) for how long.
_DEFAULT_WAIT_SECONDS = 30.0

_RATE_LIMITED = frozenset({"ratelimited", "rate_limited"})
_MAY_HAVE_ACTED = frozenset({"internal_error", "fatal_error"})
_CONFIGURATION = frozenset(
    {
        "invalid_auth",
        "not_authed",
        "account_inactive",
        "token_revoked",
        "token_expired",
        "no_permission",
        "missing_scope",
        "access_denied",
        "not_allowed_token_type",
        "org_login_required",
        "ekm_access_denied",
        "enterprise_is_restricted",
        "team_access_not_granted",
        "two_factor_setup_required",
        "accesslimited",
        "unknown_method",
        "method_deprecated",
        "deprecated_endpoint",
        "metadata_must_be_sent_from_app",
    }
)
_DESTINATION = frozenset(
    {
        "channel_not_found",
        "not_in_channel",
        "is_archived",
        "restricted_action",
        "restricted_action_read_only_channel",
        "restricted_action_thread_locked",
        "restricted_action_non_threadable_channel",
        "cannot_reply_to_message",
        "messages_tab_disabled",
        "user_not_found",
        "user_disabled",
        "is_inactive",
        "channel_type_not_supported",
        "slack_connect_file_link_sharing_blocked",
        "as_user_not_supported",
    }
)
_CONTENT = frozenset(
    {
        "msg_too_long",
        "msg_blocks_too_long",
        "no_text",
        "invalid_blocks",
        "invalid_blocks_format",
        "invalid_arguments",
        "invalid_arg_name",
        "invalid_array_arg",
        "invalid_charset",
        "invalid_json",
        "json_not_object",
        "invalid_form_data",
        "invalid_post_type",
        "missing_post_type",
        "missing_argument",
        "too_many_attachments",
        "attachment_payload_limit_exceeded",
        "metadata_too_large",
        "invalid_metadata_format",
        "invalid_metadata_schema",
    }
)
_REASONS = (
    (_CONFIGURATION, RejectionReason.CONFIGURATION),
    (_DESTINATION, RejectionReason.DESTINATION),
    (_CONTENT, RejectionReason.CONTENT),
)

Refusal = RetryLater | Rejected | Unknown


def refusal_of_code(code: str, answer: Answer) -> Refusal:
    """What an `ok: false` with this code means."""
    detail = f"Slack answered {code[:100]}"
    if code in _RATE_LIMITED:
        wait = retry_after_seconds(answer, otherwise=_DEFAULT_WAIT_SECONDS)
        return RetryLater(code=code, detail=detail, retry_after_seconds=wait)
    if code in _MAY_HAVE_ACTED:
        return Unknown(code=code, detail=detail)
    for codes, reason in _REASONS:
        if code in codes:
            return Rejected(code=code, detail=detail, reason=reason)
    return RetryLater(code=code[:100], detail=detail)


def refusal_of_status(answer: Answer) -> Refusal:
    """What an answer means that is not a 200 with Slack's JSON in it."""
    http_status = answer.http_status
    code, detail = f"http_{http_status}", f"the server answered HTTP {http_status}"
    if http_status == 429:
        wait = retry_after_seconds(answer, otherwise=_DEFAULT_WAIT_SECONDS)
        return RetryLater(code="ratelimited", detail=detail, retry_after_seconds=wait)
    if http_status in (408, 503):
        wait = retry_after_seconds(answer, otherwise=None)
        return RetryLater(code=code, detail=detail, retry_after_seconds=wait)
    if 300 <= http_status < 400:
        return Rejected(code=code, detail=f"{detail}: redirects are not followed", reason=RejectionReason.CONFIGURATION)
    if http_status in (400, 413):
        return Rejected(code=code, detail=detail, reason=RejectionReason.CONTENT)
    if 400 <= http_status < 500:
        return Rejected(code=code, detail=detail, reason=RejectionReason.CONFIGURATION)
    if http_status == 200:
        return Unknown(code="not_slack", detail="the answer is not the JSON that Slack sends")
    return Unknown(code=code, detail=detail)


def as_lookup(refusal: Refusal) -> CannotTell:
    """The same refusal, given to a look-up: whatever passes by itself is worth another look."""
    return CannotTell(
        code=refusal.code,
        detail=refusal.detail,
        look_again=not isinstance(refusal, Rejected),
        retry_after_seconds=refusal.retry_after_seconds if isinstance(refusal, RetryLater) else None,
        answered=isinstance(refusal, Rejected) or refusal.answered,
    )
