"""Reports crashes to Sentry: what broke and where, without the call that broke it, variables or personal data."""

from __future__ import annotations

from typing import Any

from assistance.domain.errors import SettingsError
from assistance.runtime.tracebacks import chain, message_of


def report_crashes(dsn: str, service: str, release: str) -> None:
    """Start reporting.

    Raises `SettingsError` when the extra `sentry` is not installed or the DSN is wrong.
    """
    try:
        import sentry_sdk
        from sentry_sdk.utils import BadDsn
    except ImportError as error:
        raise SettingsError(
            "ASSISTANCE_SENTRY_DSN is set, but the extra is missing: pip install 'assistance[sentry]'."
        ) from error
    try:
        sentry_sdk.init(
            dsn=dsn,
            release=release,
            max_request_body_size="never",
            include_local_variables=False,
            before_send=_without_words,
        )
    except BadDsn as error:
        raise SettingsError("ASSISTANCE_SENTRY_DSN is wrong: it is not a Sentry DSN.") from error
    sentry_sdk.set_tag("service", service)


def _without_words(event: Any, hint: dict[str, Any]) -> Any:
    """The report without messages that may quote, and without calls that came or went: addresses name customers too."""
    for part in ("request", "breadcrumbs"):
        event.pop(part, None)
    error = (hint.get("exc_info") or (None, None))[1]
    messages = {str(each): message_of(each) for each in chain(error)} if error is not None else {}
    for shown in event.get("exception", {}).get("values", ()):
        # One that was cut on the way is left out as well.
        shown["value"] = messages.get(shown.get("value"), "")
    return event
