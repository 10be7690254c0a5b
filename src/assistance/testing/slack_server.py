"""The part of Slack's Web API that the Slack channel uses: posting, reading history with metadata, naming the token."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs

from assistance.runtime.clock import unix_time
from assistance.testing.http_server import FakeHttpServer, Received, Reply


class FakeSlack(FakeHttpServer):
    """One workspace with one conversation and one token."""

    def __init__(self, *, token: str = "xoxb-fake", conversation_id: str = "C024BE91L", page_size: int = 200) -> None:  # noqa: S107 (a fake)
        super().__init__()
        self.token = token
        self.conversation_id = conversation_id
        self.scopes = "chat:write,channels:history"
        self.page_size = page_size
        self.messages: list[dict[str, Any]] = []

    @property
    def api_url(self) -> str:
        """What to configure as `api_url`."""
        return f"{self.url}api/"

    @property
    def visible(self) -> list[Any]:
        """The messages in the conversation, oldest first."""
        return self.messages

    def refuse_with(self, code: str, *, headers: dict[str, str] | None = None, accept: bool = False) -> None:
        """Answer the next call with `ok: false` and this code."""
        body = json.dumps({"ok": False, "error": code}).encode()
        self.script.upcoming.append(Reply(body=body, headers=headers or {}, accept=accept))

    def post(self, **message: Any) -> dict[str, Any]:
        """Put a message into the conversation, as anybody in it might."""
        entry = {"type": "message", "ts": f"{unix_time():.6f}", **message}
        self.messages.append(entry)
        return entry

    def take(self, request: Received) -> Reply:
        """Answer as Slack does: always 200, with `ok` saying how it went."""
        self.received.append(request)
        answer = self._answer(request)
        return Reply(
            headers={"Content-Type": "application/json; charset=utf-8", "X-OAuth-Scopes": self.scopes},
            body=json.dumps(answer).encode(),
        )

    def _answer(self, request: Received) -> dict[str, Any]:
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return {"ok": False, "error": "invalid_auth"}
        method, arguments = request.target.rpartition("/")[2], _arguments(request)
        if method == "auth.test":
            return {"ok": True, "user": "assistance"}
        if arguments.get("channel") != self.conversation_id:
            return {"ok": False, "error": "channel_not_found"}
        if method == "chat.postMessage":
            kept = ("text", "blocks", "metadata", "thread_ts")
            entry = self.post(**{name: arguments[name] for name in kept if name in arguments})
            return {"ok": True, "channel": self.conversation_id, "ts": entry["ts"], "message": entry}
        if method in ("conversations.history", "conversations.replies"):
            return self._history(arguments, thread=arguments.get("ts") if method.endswith("replies") else None)
        return {"ok": False, "error": "unknown_method"}

    def _history(self, arguments: dict[str, Any], *, thread: str | None) -> dict[str, Any]:
        """The conversation without the replies in threads, or one thread."""
        if "history" not in self.scopes:
            return {"ok": False, "error": "missing_scope"}
        oldest = float(arguments.get("oldest", 0))
        found = [
            message
            for message in reversed(self.messages)
            if message.get("thread_ts") == thread and float(message["ts"]) > oldest
        ]
        if arguments.get("include_all_metadata") not in ("1", "true", True):
            found = [{name: message[name] for name in message if name != "metadata"} for message in found]
        start = int(arguments.get("cursor") or 0)
        end = start + min(self.page_size, int(arguments.get("limit", 100)))
        cursor = str(end) if end < len(found) else ""
        more = {"has_more": bool(cursor), "response_metadata": {"next_cursor": cursor}}
        return {"ok": True, "messages": found[start:end], **more}


def _arguments(request: Received) -> dict[str, Any]:
    if request.headers.get("content-type", "").startswith("application/json") and request.body[:1] == b"{":
        arguments = request.json
        return arguments if isinstance(arguments, dict) else {}
    return {name: values[-1] for name, values in parse_qs(request.body.decode()).items()}
