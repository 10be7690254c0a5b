"""Reports crashes to Sentry without request bodies, local variables or personal data (the library's default)."""

from __future__ import annotations

from assistance.domain.errors import SettingsError


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
        )
    except BadDsn as error:
        raise SettingsError("ASSISTANCE_SENTRY_DSN is wrong: it is not a Sentry DSN.") from error
    sentry_sdk.set_tag("service", service)
