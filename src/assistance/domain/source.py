"""Other people's webhooks: how their messages are signed."""

from __future__ import annotations

from enum import StrEnum


class Scheme(StrEnum):
    """A way to sign a message with a shared secret."""

    STANDARD = "standard"  # Standard Webhooks, v1: id, timestamp and body
    HUB = "hub"  # X-Hub-Signature-256 of GitHub and Meta: the body alone
    SLACK = "slack"  # Slack's v0: timestamp and body
