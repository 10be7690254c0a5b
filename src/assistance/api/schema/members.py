"""The members of a body, with their limits; also what OpenAPI shows of them.

An optional member may be left out or null, which is the same.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from assistance.api.schema.kinds import EmailAddress, Instant, MediaType, Plain, Text, Topic, WebAddress
from assistance.domain.request import Priority

MAX_TRANSCRIPT = 200
MAX_ATTACHMENTS = 10
MAX_METADATA = 50
MAX_TRIED = 20


class Members(BaseModel):
    """A JSON object that holds nothing but what is declared."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Customer(Members):
    """For whom the bot asks."""

    id: Annotated[str, Text(255)] | None = Field(
        default=None, description="The bot's own name for the customer; finds all requests of one.", examples=["cus_42"]
    )
    name: Annotated[str, Text(200)] | None = Field(default=None, examples=["Ada"])
    email: Annotated[str, EmailAddress()] | None = Field(
        default=None,
        description="A mail about the request is answered to this address; nothing is ever sent to it by us.",
        examples=["ada@example.com"],
    )
    phone: Annotated[str, Text(40)] | None = Field(default=None, examples=["+4512345678"])
    locale: Annotated[str, Text(35)] | None = Field(default=None, examples=["da-DK"])
    timezone: Annotated[str, Text(64)] | None = Field(default=None, examples=["Europe/Copenhagen"])
    tier: Annotated[str, Text(64)] | None = Field(default=None, examples=["gold"])


class TranscriptEntry(Members):
    """One message of the conversation."""

    at: Annotated[datetime, Instant()] | None = Field(default=None, description="When it was written.")
    from_: Annotated[str, Text(64)] = Field(alias="from", description="Who wrote it.", examples=["customer"])
    text: Annotated[str, Text(4_000, lines=True, blank=True)] = Field(examples=["Do you sell to schools?"])


class Conversation(Members):
    """Where the bot and the customer talk."""

    id: Annotated[str, Text(255)] | None = Field(default=None, examples=["wa:4512345678"])
    channel: Annotated[str, Text(64)] | None = Field(default=None, examples=["whatsapp"])
    transcript: Annotated[list[TranscriptEntry], Field(max_length=MAX_TRANSCRIPT)] | None = Field(
        default=None, description="What was said, oldest first. People read the end of it."
    )
    transcript_url: Annotated[str, WebAddress()] | None = Field(
        default=None, description="Where people read all of it.", examples=["https://chat.example.com/c/42"]
    )


class Bot(Members):
    """Who asks, and why it does not answer by itself."""

    name: Annotated[str, Text(100)] | None = Field(default=None, examples=["shopbot"])
    version: Annotated[str, Text(64)] | None = Field(default=None, examples=["3.2"])
    confidence: Annotated[StrictFloat, Field(ge=0, le=1)] | None = Field(
        default=None, description="How sure the bot was of its answer, from 0 to 1.", examples=[0.31]
    )
    sentiment: Annotated[StrictFloat, Field(ge=-1, le=1)] | None = Field(
        default=None, description="The customer's mood, from -1 to 1.", examples=[-0.4]
    )
    reason: Annotated[str, Text(500, lines=True)] | None = Field(default=None, examples=["low_confidence"])
    tried: Annotated[list[Annotated[str, Text(200)]], Field(max_length=MAX_TRIED)] | None = Field(
        default=None, description="What the bot tried before it asked.", examples=[["faq:returns"]]
    )


class Attachment(Members):
    """A file that stays where it is; people get its address."""

    url: Annotated[str, WebAddress()] = Field(examples=["https://files.example.com/order.pdf"])
    name: Annotated[str, Text(255)] | None = Field(default=None, examples=["order.pdf"])
    media_type: Annotated[str, MediaType()] | None = Field(default=None, examples=["application/pdf"])


class SubmissionBody(Members):
    """A request for assistance."""

    topic: Annotated[str, Topic(64)] = Field(
        description="What it is about; decides who is told. Surrounding white space and case do not matter.",
        examples=["sales"],
    )
    description: Annotated[str, Text(4_000, lines=True)] = Field(
        description="What is needed, as plain text. Line ends become \\n; other control characters except "
        "the tabulator are refused.",
        examples=["Customer wants a quote for 40 seats"],
    )
    title: Annotated[str, Text(200)] | None = Field(
        default=None, description="The same in a few words, for a heading.", examples=["Quote for 40 seats"]
    )
    priority: Priority | None = Field(
        default=Priority.NORMAL, description="Shown to people. Nothing is told earlier or later because of it."
    )
    customer: Customer | None = None
    conversation: Conversation | None = None
    bot: Bot | None = None
    attachments: Annotated[list[Attachment], Field(max_length=MAX_ATTACHMENTS)] | None = None
    metadata: (
        Annotated[
            dict[Annotated[str, Text(64)], Annotated[str | bool | int | float, Plain()]], Field(max_length=MAX_METADATA)
        ]
        | None
    ) = Field(
        default=None,
        description="The bot's own data, handed on as it is. Numbers up to ±9007199254740991.",
        examples=[{"order_id": "1234"}],
    )
    dedup_key: Annotated[str, Text(255)] | None = Field(
        default=None,
        description="While a request with this key is open, another one joins it instead of being a second one.",
        examples=["cus_42:quote"],
    )
    not_before: Annotated[datetime, Instant()] | None = Field(
        default=None, description="People are not told before this moment."
    )
    expires_at: Annotated[datetime, Instant()] | None = Field(
        default=None, description="Whoever was not told by this moment is not told any more."
    )
    callback_url: Annotated[str, WebAddress()] | None = Field(
        default=None,
        description="Where news of this request are posted.",
        examples=["https://bot.example.com/hooks/assistance"],
    )

    @field_validator("expires_at")
    @classmethod
    def _expires_after_it_begins(cls, expires_at: datetime | None, info: ValidationInfo) -> datetime | None:
        not_before = info.data.get("not_before")
        if expires_at and not_before and expires_at <= not_before:
            raise PydanticCustomError("too-early", "has to be later than not_before")
        return expires_at
