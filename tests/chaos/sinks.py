"""Slack, a mail server and a webhook receiver in one process with an fsynced log: the third parties of the campaign.

`python -m tests.chaos.sinks FOLDER CONTROL_PORT SLACK_PORT SMTP_PORT WEBHOOK_PORT`. What a door says yes to is on disk
first, so that the log can be trusted after this process was killed. Credentials are demanded, and each door fails on
request, through the control port.
"""

from __future__ import annotations

import asyncio
import bisect
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from assistance.embedded.sandbox.mail import read_mail

DOORS = ("slack", "smtp", "webhook")
#: What a door does instead of acting and answering. `drop` acts and hangs up, `late` acts and answers after the client
#: has left, `stall` does neither, `refuse` takes no connections.
MODES = ("ok", "error", "drop", "late", "stall", "refuse")
_LATE_SECONDS = 3.0  # longer than a channel's timeout in the campaign
_REMEMBERED = 20_000  # messages of a conversation


class Log:
    """Everything received, one JSON line each; a line is on disk when `add` returns."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab+", buffering=0)
        self._last = 0
        self.conversations: dict[str, list[tuple[int, dict[str, Any]]]] = {}
        self._load()

    def add(self, record: dict[str, Any]) -> int:
        """The moment of the record in microseconds, unique and increasing."""
        self._last = max(time.time_ns() // 1000, self._last + 1)
        record = {"at": self._last, **record}
        self._file.write(json.dumps(record).encode() + b"\n")
        os.fsync(self._file.fileno())
        self._remember(record)
        return self._last

    def _remember(self, record: dict[str, Any]) -> None:
        if record["kind"] == "slack":
            messages = self.conversations.setdefault(record["conversation"], [])
            messages.append((record["at"], record))
            if len(messages) > 2 * _REMEMBERED:
                del messages[:_REMEMBERED]

    def _load(self) -> None:
        """Read what an earlier process wrote, and cut off a line that its end tore in two: nobody was told yes."""
        self._file.seek(0)
        end = 0
        for line in self._file.read().splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            end += len(line)
            record = json.loads(line)
            self._last = record["at"]
            self._remember(record)
        self._file.truncate(end)


@dataclass
class Door:
    """One way in, and how it misbehaves at present."""

    mode: str = "ok"
    struck: int = 0

    def strikes(self) -> str:
        """The mode that this call meets; counted unless it is `ok`."""
        self.struck += self.mode != "ok"
        return self.mode


@dataclass
class Reply:
    """An HTTP answer; none at all when the door hangs up."""

    status: int = 200
    content: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[str, Mapping[str, str], bytes], Awaitable[Reply | None]]


class Sinks:
    """All three doors over one log."""

    def __init__(self, folder: Path, ports: Mapping[str, int]) -> None:
        self._log = Log(folder / "received.jsonl")
        self._ports = ports
        self.doors = {name: Door() for name in DOORS}
        self._servers: dict[str, asyncio.Server] = {}
        self._token = os.environ["SLACK_BOT_TOKEN"]
        self._smtp_login = (os.environ["SMTP_USER"].encode(), os.environ["SMTP_PASSWORD"].encode())
        self._webhook = Webhook(os.environ["HOOK_SECRET"])

    async def serve(self, control_port: int) -> None:
        for name in DOORS:
            await self._open(name)
        control = await asyncio.start_server(_http(self._control), "127.0.0.1", control_port)
        await control.serve_forever()

    async def _open(self, name: str) -> None:
        port = self._ports[name]
        if name == "smtp":
            loop = asyncio.get_running_loop()
            server = await loop.create_server(self._smtp, "127.0.0.1", port, backlog=512)
        else:
            handler = self._slack if name == "slack" else self._hook
            server = await asyncio.start_server(_http(handler), "127.0.0.1", port, backlog=512)
        self._servers[name] = server

    async def _control(self, _target: str, _headers: Mapping[str, str], body: bytes) -> Reply:
        """`{"slack": "drop", …}` sets modes; the answer tells how many calls met each door's mode until now."""
        struck = {name: door.struck for name, door in self.doors.items()}
        for name, mode in json.loads(body or b"{}").items():
            door = self.doors[name]
            if mode == "refuse" and door.mode != "refuse":
                self._servers[name].close()
            if mode != "refuse" and door.mode == "refuse":
                await self._open(name)
            self.doors[name] = Door(mode)
        return Reply(content={"struck": struck})

    async def _slack(self, target: str, headers: Mapping[str, str], body: bytes) -> Reply | None:
        if headers.get("authorization") != f"Bearer {self._token}":
            return Reply(content={"ok": False, "error": "invalid_auth"})
        url = urlsplit(target)
        arguments: dict[str, Any] = dict(parse_qsl(url.query))
        is_json = headers.get("content-type", "").startswith("application/json")
        arguments |= json.loads(body) if is_json else dict(parse_qsl(body.decode()))
        if url.path == "/api/conversations.history":
            return Reply(content={"ok": True, **self._history(arguments)})
        if url.path != "/api/chat.postMessage":
            return Reply(content={"ok": False, "error": "unknown_method"})
        mode = self.doors["slack"].strikes()
        if mode == "error":
            limited = self.doors["slack"].struck % 3 == 0
            return Reply(429, {"ok": False}, {"Retry-After": "1"}) if limited else Reply(500)
        return await _misbehave(mode, lambda: Reply(content={"ok": True, **self._post(arguments)}))

    def _post(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        conversation = arguments["channel"]
        at = self._log.add(
            {
                "kind": "slack",
                "conversation": conversation,
                "text": arguments["text"],
                "blocks": _structure(arguments["blocks"]),
                "metadata": _structure(arguments["metadata"]),
            }
        )
        return {"channel": conversation, "ts": _ts(at)}

    def _history(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        messages = self._log.conversations.get(arguments["channel"], [])
        first = bisect.bisect_right(messages, round(float(arguments.get("oldest") or 0) * 1e6), key=lambda m: m[0])
        last = len(messages)
        if arguments.get("cursor"):
            last = bisect.bisect_left(messages, int(arguments["cursor"]), key=lambda m: m[0])
        start = max(first, last - int(arguments.get("limit") or 100))
        page = [
            {"type": "message", "ts": _ts(at), "text": record["text"], "metadata": record["metadata"]}
            for at, record in reversed(messages[start:last])
        ]
        cursor = str(messages[start][0]) if first < start < last else ""
        return {"messages": page, "has_more": bool(cursor), "response_metadata": {"next_cursor": cursor}}

    async def _hook(self, _target: str, headers: Mapping[str, str], body: bytes) -> Reply | None:
        mode = self.doors["webhook"].strikes()
        if mode == "error":
            return Reply(503)
        return await _misbehave(mode, lambda: self._receive(headers, body))

    def _receive(self, headers: Mapping[str, str], body: bytes) -> Reply:
        try:
            content = self._webhook.verify(body, dict(headers))
        except (WebhookVerificationError, ValueError) as error:
            self._log.add({"kind": "forged", "reason": str(error), "body": body.decode(errors="replace")})
            return Reply(401)
        self._log.add({"kind": "webhook", "webhook_id": headers["webhook-id"], "content": content})
        return Reply(204)

    def _smtp(self) -> SMTP:
        return SMTP(
            _Mailbox(self._log, self.doors),
            hostname="sinks",
            enable_SMTPUTF8=True,
            auth_require_tls=False,
            authenticator=self._knows,
            loop=asyncio.get_running_loop(),
        )

    def _knows(self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, login: object) -> AuthResult:
        known = isinstance(login, LoginPassword) and (login.login, login.password) == self._smtp_login
        return AuthResult(success=known, handled=False)


class _Mailbox:
    """What happens with a mail; the method names are aiosmtpd's."""

    def __init__(self, log: Log, doors: Mapping[str, Door]) -> None:
        self._log = log
        self._doors = doors

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        mode = self._doors["smtp"].strikes()
        if mode == "error":
            return "451 4.3.0 Refused on request"
        if mode != "stall":
            mail = read_mail(bytes(envelope.original_content or b""))
            self._log.add(
                {"kind": "mail", "body": mail["body"], "headers": mail["headers"], "subject": mail["subject"]}
            )
        if mode in ("late", "stall"):
            await asyncio.sleep(_LATE_SECONDS)
        if mode in ("drop", "stall"):
            assert isinstance(server.transport, asyncio.Transport)
            server.transport.abort()
        return "250 2.0.0 Kept"


async def _misbehave(mode: str, act: Callable[[], Reply]) -> Reply | None:
    if mode == "stall":
        await asyncio.sleep(_LATE_SECONDS)
        return None
    reply = act()
    if mode == "late":
        await asyncio.sleep(_LATE_SECONDS)
    return None if mode == "drop" else reply


def _http(handle: Handler) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """One call per connection, which is how the channels talk."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            reply = await handle(head[0].split(" ")[1], headers, body)
            if reply is None:
                writer.transport.abort()
            else:
                writer.write(_as_bytes(reply))
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client left
        finally:
            writer.close()

    return serve


def _as_bytes(reply: Reply) -> bytes:
    body = b"" if reply.status == 204 else json.dumps(reply.content).encode()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}
    lines = [f"HTTP/1.1 {reply.status} Answer", *(f"{n}: {v}" for n, v in {**headers, **reply.headers}.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _structure(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def _ts(microseconds: int) -> str:
    return f"{microseconds // 1_000_000}.{microseconds % 1_000_000:06d}"


if __name__ == "__main__":
    where, control, *three = sys.argv[1:]
    sinks = Sinks(Path(where), dict(zip(DOORS, map(int, three), strict=True)))
    asyncio.run(sinks.serve(int(control)))
