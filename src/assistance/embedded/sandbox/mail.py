"""The SMTP end: takes every mail, and says 250 once it is on disk."""

from __future__ import annotations

import asyncio
import email
import threading
from email.errors import MessageError
from email.header import decode_header, make_header
from email.message import Message
from typing import Any

import structlog
from aiosmtpd.smtp import SMTP, Envelope, Session

from assistance.domain.errors import SettingsError
from assistance.embedded.sandbox.faults import Faults
from assistance.embedded.sandbox.store import Store

log = structlog.get_logger()

_LARGEST_MAIL = 1024 * 1024
_LONGEST_SHOWN = 100_000  # characters of a body
_STOP_SECONDS = 5
#: All that the standard library's parser and codecs raise for content that breaks their rules.
_BROKEN = (ValueError, LookupError, TypeError, AttributeError, AssertionError, MessageError, RecursionError)


class MailSink:
    """An SMTP server in a thread of its own."""

    def __init__(self, host: str, port: int, store: Store, faults: Faults) -> None:
        self._loop = asyncio.new_event_loop()
        handler = _Handler(store, faults)
        try:
            self._server = self._loop.run_until_complete(
                self._loop.create_server(
                    # The name is given because looking it up can take seconds where there is no DNS.
                    lambda: SMTP(
                        handler,
                        loop=self._loop,
                        hostname="sandbox",
                        ident="assistance sandbox",
                        enable_SMTPUTF8=True,
                        data_size_limit=_LARGEST_MAIL,
                        timeout=60,
                    ),
                    host,
                    port,
                )
            )
        except OSError as error:
            self._loop.close()
            raise SettingsError(f"The sandbox's mail server cannot listen on {host}:{port}: {_why(error)}.") from error
        self.port: int = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, name="smtp", daemon=True)

    def start(self) -> None:
        """Begin to take mail."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more connections and end those that are open."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(_STOP_SECONDS)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_STOP_SECONDS)
        else:
            self._server.close()
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._loop.shutdown_default_executor()


class _Handler:
    """What happens with a mail; the method names are aiosmtpd's."""

    def __init__(self, store: Store, faults: Faults) -> None:
        self._store = store
        self._faults = faults

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self._faults.refuses_next_mail():
            return "451 4.3.0 Refused on request, try again later"
        mail = read_mail(bytes(envelope.original_content or b""))
        mail |= {"from": envelope.mail_from or "", "to": list(envelope.rcpt_tos)}
        try:
            await asyncio.get_running_loop().run_in_executor(None, self._store.add_mail, mail)
        except OSError as error:
            log.warning("sandbox.disk_refused", reason=error.strerror)
            return "451 4.3.1 The sandbox's disk refuses, try again later"
        return "250 2.0.0 Kept"


def read_mail(raw: bytes) -> dict[str, Any]:
    """A mail as a person would see it: `subject`, `body` and all `headers`; never raises, whatever the bytes are."""
    try:
        message = email.message_from_bytes(raw)
        headers = [[name, _decoded(value)] for name, value in message.items()]
        body = _body(message)
    except _BROKEN:
        headers, body = [], raw.decode("utf-8", "replace")
    subject = next((value for name, value in headers if name.lower() == "subject"), "")
    return {"subject": subject, "body": body[:_LONGEST_SHOWN], "headers": headers}


def _decoded(value: Any) -> str:
    try:
        text = str(make_header(decode_header(value)))
    except _BROKEN:
        text = str(value)
    return _sound(text)


def _body(message: Message) -> str:
    parts = [part for part in message.walk() if not part.is_multipart()]
    part = next((part for part in parts if part.get_content_type() == "text/plain"), parts[0] if parts else message)
    content = part.get_payload(decode=True)
    if not isinstance(content, bytes):
        return ""
    try:
        text = content.decode(part.get_content_charset("utf-8"), "replace")
    except _BROKEN:
        text = content.decode("utf-8", "replace")
    return _sound(text).replace("\r\n", "\n")


def _sound(text: str) -> str:
    """The text without half characters, so that it can be written as UTF-8."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()


def _why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
