"""E-mail through an SMTP server: plain text, one mail to all addresses of the channel."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, SecretStr

from assistance.channels import email_message
from assistance.channels.contract import Capabilities, ChannelType, DeliveryKey, Health, Rendered, View
from assistance.channels.kept import Kept
from assistance.channels.options import ChannelOptions, SecretUrl
from assistance.channels.smtp import (
    Conversation,
    LostAfterTheDot,
    LostBeforeTheDot,
    SmtpRefused,
    conversation,
)
from assistance.channels.smtp_address import parse_server
from assistance.channels.wire import NotConnected
from assistance.domain.outcome import (
    NO_TIME,
    CannotTell,
    Delivered,
    Lookup,
    Outcome,
    Rejected,
    RejectionReason,
    RetryLater,
    Unknown,
)
from assistance.runtime.clock import Deadline

_TOO_BIG = 552
#: What this program writes; a receipt is data, and nothing else may become a header.
_MESSAGE_ID = re.compile(r"<[A-Za-z0-9.-]+@[A-Za-z0-9.-]+>")
_Answers = Mapping[str, tuple[int, bytes]]


def _checked_url(url: SecretStr) -> SecretStr:
    parse_server(url.get_secret_value())
    return url


def _checked_sender(text: str) -> str:
    email_message.parse_address(text)
    return text


def _plain_address(text: str) -> str:
    address = email_message.parse_address(text)
    if address.display_name is not None:
        raise ValueError("write only the address, without a name")
    return str(address.ascii_email)


class EmailOptions(ChannelOptions):
    """The server, who writes, and who is written to."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, populate_by_name=True)

    url: Annotated[SecretUrl, AfterValidator(_checked_url)]
    sender: Annotated[str, AfterValidator(_checked_sender)] = Field(alias="from")
    to: list[Annotated[str, AfterValidator(_plain_address)]] = Field(min_length=1, max_length=100)


class EmailChannel:
    """One set of addresses behind one SMTP server."""

    def __init__(self, options: EmailOptions) -> None:
        self._server = parse_server(options.url.get_secret_value())
        self._sender = email_message.parse_address(options.sender)
        self._to = list(dict.fromkeys(options.to))
        self._kept = Kept[Conversation]()

    @property
    def destination(self) -> Mapping[str, Any]:
        """The addresses."""
        return {"to": list(self._to)}

    def render(self, view: View) -> Rendered:
        """Subject and plain text."""
        return email_message.render(view)

    def send(self, rendered: Rendered, destination: Mapping[str, Any], key: DeliveryKey, deadline: Deadline) -> Outcome:
        """Hand the mail in once; the receipt says which addresses the server took and which it refused."""
        to = destination.get("to")
        if not isinstance(to, list) or not to or not all(map(_may_be_address, to)):
            return _rejected("bad_destination", "the destination names no address", RejectionReason.DESTINATION)
        try:
            wire = email_message.compose(rendered, self._sender, to, key, answers=_first_mail(destination))
        except email_message.UnsafeHeaders:
            return _rejected("unsafe_headers", "the text would change the mail's headers", RejectionReason.CONTENT)
        try:
            return self._hand_in(wire, to, key, deadline)
        except NotConnected as problem:
            return RetryLater(code=problem.code, detail=problem.detail, answered=False)
        except SmtpRefused as refused:
            return _refusal(refused)
        except LostBeforeTheDot as lost:
            return RetryLater(code="connection_lost", detail=str(lost), answered=False)
        except LostAfterTheDot as lost:
            return Unknown(code="no_answer", detail=str(lost), answered=False)

    def lookup(self, destination: Mapping[str, Any], key: DeliveryKey, since: datetime, deadline: Deadline) -> Lookup:  # noqa: ARG002 (nothing to ask)
        """An SMTP server cannot be asked what it took."""
        return CannotTell(code="not_supported", detail="a mail that was handed in cannot be looked up")

    def check(self, deadline: Deadline) -> Health:
        """Log in and name sender and recipients, then leave without sending a message."""
        try:
            with conversation(self._server, deadline) as talk:
                refused = talk.envelope(str(self._sender.ascii_email), self._to)
                talk.leave()
        except (NotConnected, SmtpRefused, LostBeforeTheDot) as problem:
            return Health(problems=(f"The SMTP server cannot be used: {problem}.",))
        return Health(
            problems=tuple(f"The SMTP server refuses {to}: {_said(answer)}." for to, answer in refused.items())
        )

    def _hand_in(self, wire: bytes, to: list[str], key: DeliveryKey, deadline: Deadline) -> Outcome:
        with conversation(self._server, deadline, self._kept) as talk:
            refused = talk.envelope(str(self._sender.ascii_email), to)
            if len(refused) == len(set(to)):
                talk.leave()
                return _all_refused(refused)
            if deadline.has_passed:  # a process that was stopped meanwhile: somebody else may be sending it
                raise NotConnected(NO_TIME, "no time was left to send")
            code, text = talk.data(wire)
            if not talk.may_go_on:
                talk.leave()
        if code >= 300:
            return _refusal(SmtpRefused("message", code, text))
        return Delivered(
            receipt={
                "message_id": email_message.message_id(key, self._sender.ascii_domain or self._sender.domain),
                "accepted": [address for address in to if address not in refused],
                "refused": {address: _said(answer) for address, answer in refused.items()},
            }
        )


def _first_mail(destination: Mapping[str, Any]) -> str | None:
    """The `Message-ID` of the mail that told the request; none when an operator confirmed it by hand."""
    root = destination.get("thread")
    found = root.get("message_id") if isinstance(root, Mapping) else None
    return found if isinstance(found, str) and _MESSAGE_ID.fullmatch(found) else None


def _all_refused(refused: _Answers) -> Outcome:
    detail = "; ".join(f"{address}: {_said(answer)}" for address, answer in refused.items())[:500]
    if any(400 <= code < 500 for code, _ in refused.values()):
        return RetryLater(code="recipients_refused", detail=detail)
    return _rejected("recipients_refused", detail, RejectionReason.DESTINATION)


def _refusal(refused: SmtpRefused) -> Outcome:
    """Before the message, a final no concerns how the channel is set up; after it, what the message says."""
    code = f"smtp_{refused.code}" if refused.code > 0 else "not_smtp"
    if refused.code < 500 or refused.stage == "starttls":
        return RetryLater(code=code, detail=str(refused))
    about_content = refused.stage in ("data", "message") or refused.code == _TOO_BIG
    reason = RejectionReason.CONTENT if about_content else RejectionReason.CONFIGURATION
    return _rejected(code, str(refused), reason)


def _may_be_address(value: object) -> bool:
    return isinstance(value, str) and value.isascii() and value.isprintable() and "@" in value


def _rejected(code: str, detail: str, reason: RejectionReason) -> Rejected:
    return Rejected(code=code, detail=detail, reason=reason)


def _said(answer: tuple[int, bytes]) -> str:
    return f"{answer[0]} {answer[1].decode('ascii', 'replace')[:200]}"


CHANNEL_TYPE = ChannelType(
    name="email",
    capabilities=Capabilities(follow_ups=True),
    options=EmailOptions,
    build=EmailChannel,
    preview=email_message.preview,
)
