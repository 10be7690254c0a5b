"""What `/webhooks` takes and answers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from assistance.api.schema.kinds import Word
from assistance.configuration.webhooks import CALLED_BACK


class WebhookBody(BaseModel):
    """Where to be called back."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    # Whether callbacks may go there is decided where all URLs of clients are looked at.
    url: str = Field(
        description="An https URL on the open internet, on port 443, of 2,048 characters at most.",
        json_schema_extra={"pattern": "^[Hh][Tt][Tt][Pp][Ss]?://[!-~]+$", "maxLength": 2_048},
    )
    events: Annotated[list[Annotated[str, Word(CALLED_BACK)]], Field(min_length=1)] | None = Field(
        default=None, description="The types of events that are sent; all of them when it is left out."
    )


class WebhookAnswer(BaseModel):
    """A webhook without its secret."""

    id: str
    url: str
    events: list[str] | None = Field(description="The types of events that are sent; none means all of them.")
    created_at: datetime
    previous_until: datetime | None = Field(description="Until when the secret before the current one signs as well.")
    disabled_at: datetime | None
    disabled_reason: str | None = Field(description="Why nothing is sent there any more.")


class NewWebhookAnswer(WebhookAnswer):
    """A webhook with its secret, which is shown this once."""

    secret: str = Field(description="The key of the signatures, in the form of Standard Webhooks.")


class WebhooksAnswer(BaseModel):
    """The caller's webhooks, the oldest first."""

    webhooks: list[WebhookAnswer]


class SecretAnswer(BaseModel):
    """The secret for the `callback_url` of requests, which is shown this once."""

    secret: str
    previous_until: datetime | None = Field(description="Until when the secret before it signs as well.")


class TestAnswer(BaseModel):
    """How a test went."""

    __test__ = False

    delivered: bool
    http_status: int | None = Field(description="What your server answered, if it did.")
    detail: str | None = Field(description="Why there was no answer.")
