"""A request as a mail: plain text, and headers in which nothing that a customer wrote can become a header.

Subjects are encoded here, because the standard library of some supported Python versions decodes encoded words in a
subject before it writes them, which makes real headers out of them (CVE-2024-6923).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from email import charset, policy
from email.errors import MessageError
from email.header import Header
from email.message import Message
from email.parser import BytesParser
from email.utils import formataddr, formatdate
from typing import Any

from email_validator import EmailNotValidError, ValidatedEmail, validate_email

from assistance.channels.contract import DeliveryKey, FollowUp, Part, Rendered, View
from assistance.channels.text import (
    Said,
    attachments,
    clean,
    details,
    facts,
    headline,
    notices,
    one_line,
    title,
    transcript,
)
from assistance.runtime.clock import unix_time

_SUMMARY_CHARACTERS = 80
_TRANSCRIPT_CHARACTERS = 20_000
_READABLE_UTF8 = charset.Charset("utf-8")
_READABLE_UTF8.body_encoding = charset.QP  # mail logs stay readable for people, and every line end is a real one


class UnsafeHeaders(Exception):
    """The message would have other headers than those that were set; it is not sent."""


def parse_address(text: str) -> ValidatedEmail:
    """Check an address, which may have a display name, without asking any server.

    Raises `ValueError` with a sentence; an address without an ASCII form is refused, because not every server takes it.
    """
    try:
        address = validate_email(text, check_deliverability=False, test_environment=True, allow_display_name=True)
    except EmailNotValidError as error:
        raise ValueError(f"not an e-mail address: {str(error).rstrip('.')}") from error
    if address.ascii_email is None:
        raise ValueError("an address needs an ASCII form before the @")
    return address


def render(view: View) -> Rendered:
    """The mail that tells a view."""
    return _render_request(view) if view.follow_up is None else _render_follow_up(view, view.follow_up)


def preview(view: View) -> tuple[Part, ...]:
    """Subject and body, and who gets an answer when that is not the sender."""
    content = render(view).content
    reply_to = content.get("reply_to")
    answered = (Part(label="Answers go to", text=reply_to),) if reply_to else ()
    return (Part(label="Subject", text=content["subject"]), *answered, Part(text=content["body"]))


def _render_request(view: View) -> Rendered:
    """Subject, body (notices first), and the customer's address to answer to, when there is a valid one."""
    request = view.request
    about = one_line(request.title) if request.title else one_line(request.description, _SUMMARY_CHARACTERS)
    subject = f"[{request.ref}] {one_line(request.topic)}: {about}"
    parts = ["\n".join(notices(view)), title(request), "\n".join(facts(view)), clean(request.description)]
    parts += [_listed("Attachments", attachments(request)), _listed("Details", details(request))]
    parts += _conversation(transcript(request))
    content = {"subject": subject, "body": "\n\n".join(part for part in parts if part)}
    reply_to = _reply_to(request.customer.get("email"))
    return Rendered(text=subject, content=content | ({"reply_to": reply_to} if reply_to else {}))


def _render_follow_up(view: View, follow_up: FollowUp) -> Rendered:
    """An answer to the mail that told the request."""
    first = _render_request(view)
    parts = ["\n".join(notices(view)), f"{headline(follow_up)} ({title(view.request)}):", clean(follow_up.text)]
    content = {**first.content, "subject": f"Re: {first.text}", "body": "\n\n".join(part for part in parts if part)}
    return Rendered(text=f"Re: {first.text}", content=content)


def _listed(heading: str, lines: Sequence[str]) -> str:
    return "\n- ".join([f"{heading}:", *lines]) if lines else ""


def _conversation(said: Sequence[Said]) -> Iterator[str]:
    """The transcript, each text quoted; of a long one the end."""
    quoted: list[str] = []
    size = 0
    for entry in reversed(said):
        text = f"{entry.by}:\n" + "\n".join(f"> {line}" for line in entry.text.split("\n"))
        size += len(text)
        if size > _TRANSCRIPT_CHARACTERS:
            break
        quoted.append(text)
    if said:
        left_out = len(said) - len(quoted)
        yield "The conversation:" if not left_out else f"The conversation, without the first {left_out} messages:"
        yield from reversed(quoted)


def message_id(key: DeliveryKey, domain: str) -> str:
    """The same for every try of a delivery's series, so that mail programs show a repeat once."""
    return f"<{key.delivery_id}.{key.series}@{domain}>"


def compose(
    rendered: Rendered, sender: ValidatedEmail, to: Iterable[str], key: DeliveryKey, *, answers: str | None = None
) -> bytes:
    """The message as it goes over the wire, with CRLF line ends; `answers` is the `Message-ID` of an earlier mail.

    Raises `UnsafeHeaders` when it cannot be written, or reading it back finds other headers than those that were set.
    """
    message: Message[Any, Any] = Message(policy=policy.compat32)
    message.set_payload(rendered.content["body"], _READABLE_UTF8)
    headers: dict[str, str | Header] = {
        "From": formataddr((sender.display_name, str(sender.ascii_email))),
        "To": ", ".join(to),
        "Subject": Header(rendered.content["subject"], "utf-8", header_name="Subject"),
        "Date": formatdate(unix_time()),
        "Message-ID": message_id(key, sender.ascii_domain or sender.domain),
        "Auto-Submitted": "auto-generated",
    }
    if answers:
        headers |= {"In-Reply-To": answers, "References": answers}
    if rendered.content.get("reply_to"):
        headers["Reply-To"] = rendered.content["reply_to"]
    for name, value in headers.items():
        message[name] = value
    try:
        wire = message.as_bytes(policy=policy.compat32.clone(linesep="\r\n"))
    except MessageError as error:
        raise UnsafeHeaders from error
    _verify(wire, {*headers, "Content-Type", "MIME-Version", "Content-Transfer-Encoding"})
    return wire


def _verify(wire: bytes, expected: set[str]) -> None:
    found = BytesParser(policy=policy.compat32).parsebytes(wire, headersonly=True).keys()
    bare = wire.replace(b"\r\n", b"")
    if sorted(found) != sorted(expected) or b"\r" in bare or b"\n" in bare:
        raise UnsafeHeaders


def _reply_to(written: object) -> str | None:
    if not isinstance(written, str):
        return None
    try:
        return validate_email(written, check_deliverability=False, test_environment=True).ascii_email
    except EmailNotValidError:
        return None
