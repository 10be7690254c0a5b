"""The TOML file: which channels exist, where each topic goes, how retries are spaced.

It is data: adding a second Slack channel or another inbox touches nothing else. A file with mistakes is refused as a
whole, with one sentence for each mistake.
"""

from assistance.configuration.model import (
    ChannelSettings,
    Configuration,
    IssuerSettings,
    SourceSettings,
    WebhookSettings,
)
from assistance.configuration.reader import load_configuration
from assistance.configuration.values import parse_duration, parse_rate
from assistance.domain.route import fold_topic

__all__ = [
    "ChannelSettings",
    "Configuration",
    "IssuerSettings",
    "SourceSettings",
    "WebhookSettings",
    "fold_topic",
    "load_configuration",
    "parse_duration",
    "parse_rate",
]
