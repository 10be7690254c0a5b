"""The Slack end: the few methods of the Web API that a channel needs, with Slack's own refusals.

A method takes its arguments and returns the members of the answer; a refusal is raised as `Refused`.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from assistance.embedded.sandbox.faults import Faults
from assistance.embedded.sandbox.store import Store

_TS = re.compile(r"\d{1,15}(\.\d{1,9})?", re.ASCII)
_LONGEST_TEXT = 40_000
_MOST_BLOCKS = 50
_LONGEST_SECTION = 3_000
_PAGE_SIZE = 100
_LARGEST_PAGE = 999

Arguments = Mapping[str, Any]


class Refused(Exception):
    """Slack's `ok: false` with its code."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class SlackApi:
    """The Web API in front of the store. Thread-safe."""

    def __init__(self, store: Store, faults: Faults) -> None:
        self._store = store
        self._faults = faults
        #: Methods by name; the second value says whether ordered failures strike it.
        self.methods: dict[str, tuple[Callable[[Arguments], dict[str, Any]], bool]] = {
            "auth.test": (self._auth_test, False),
            "chat.postMessage": (self._post, True),
            "chat.update": (self._update, True),
            "conversations.history": (self._history, False),
            "conversations.replies": (self._replies, False),
        }

    def _auth_test(self, _arguments: Arguments) -> dict[str, Any]:
        return {
            "url": "https://sandbox.slack.invalid/",
            "team": "Sandbox",
            "team_id": "T0SANDBOX",
            "user": "assistance",
            "user_id": "U0SANDBOX",
            "bot_id": "B0SANDBOX",
        }

    def _post(self, arguments: Arguments) -> dict[str, Any]:
        conversation = self._conversation(arguments)
        kept = self._store.add_slack(conversation, _message(arguments))
        return {"channel": conversation, "ts": kept["ts"], "message": _shown(kept, with_metadata=True)}

    def _update(self, arguments: Arguments) -> dict[str, Any]:
        conversation = self._conversation(arguments)
        ts = arguments.get("ts")
        kept = self._store.update_slack(conversation, str(ts), _message(arguments)) if ts else None
        if kept is None:
            raise Refused("message_not_found")
        return {"channel": conversation, "ts": kept["ts"], "text": kept["text"], "message": _shown(kept)}

    def _history(self, arguments: Arguments) -> dict[str, Any]:
        """The conversation without what stands in threads only."""
        messages = self._store.conversation(self._conversation(arguments))
        return self._page(arguments, [message for message in messages if not message.get("thread_ts")])

    def _replies(self, arguments: Arguments) -> dict[str, Any]:
        """One thread; the sandbox gives the newest first here too."""
        messages = self._store.conversation(self._conversation(arguments))
        root = str(arguments.get("ts"))
        thread = [message for message in messages if root in (message["ts"], message.get("thread_ts"))]
        if not thread:
            raise Refused("thread_not_found")
        return self._page(arguments, thread)

    def _page(self, arguments: Arguments, messages: list[dict[str, Any]]) -> dict[str, Any]:
        inclusive = _is_true(arguments.get("inclusive"))
        oldest, latest = _ts(arguments, "oldest"), _ts(arguments, "latest")
        before = _read_cursor(arguments.get("cursor"))
        found = [
            message
            for message in messages
            if (oldest is None or _order(message["ts"]) > oldest or (inclusive and _order(message["ts"]) == oldest))
            and (latest is None or _order(message["ts"]) < latest or (inclusive and _order(message["ts"]) == latest))
            and (before is None or _order(message["ts"]) < before)
        ]
        size = _page_size(arguments.get("limit"))
        page, more = found[:size], len(found) > size
        with_metadata = _is_true(arguments.get("include_all_metadata"))
        return {
            "messages": [_shown(message, with_metadata=with_metadata) for message in page],
            "has_more": more,
            "response_metadata": {"next_cursor": _cursor(page[-1]["ts"]) if more else ""},
        }

    def _conversation(self, arguments: Arguments) -> str:
        conversation = arguments.get("channel")
        if not isinstance(conversation, str) or not conversation:
            raise Refused("invalid_arguments")
        if not self._faults.knows_conversation(conversation):
            raise Refused("channel_not_found")
        return conversation


def _message(arguments: Arguments) -> dict[str, Any]:
    text, blocks = arguments.get("text", ""), _structure(arguments, "blocks", "invalid_blocks_format")
    if not isinstance(text, str):
        raise Refused("invalid_arguments")
    if not text and not blocks:
        raise Refused("no_text")
    if len(text) > _LONGEST_TEXT:
        raise Refused("msg_too_long")
    metadata = _structure(arguments, "metadata", "invalid_metadata_format")
    if metadata is not None and not (
        isinstance(metadata, dict)
        and isinstance(metadata.get("event_type"), str)
        and isinstance(metadata.get("event_payload"), dict)
    ):
        raise Refused("invalid_metadata_schema")
    thread = arguments.get("thread_ts")
    if thread is not None and not _TS.fullmatch(str(thread)):
        raise Refused("invalid_thread_ts")
    in_thread = {} if thread is None else {"thread_ts": str(thread)}
    return {"text": text, "blocks": _checked_blocks(blocks), "metadata": metadata, **in_thread}


def _checked_blocks(blocks: Any) -> list[dict[str, Any]]:
    if blocks is None:
        return []
    if not isinstance(blocks, list) or len(blocks) > _MOST_BLOCKS:
        raise Refused("invalid_blocks")
    for block in blocks:
        if not isinstance(block, dict) or not isinstance(block.get("type"), str):
            raise Refused("invalid_blocks")
        text = block.get("text")
        if isinstance(text, dict) and not 0 < len(str(text.get("text", ""))) <= _LONGEST_SECTION:
            raise Refused("invalid_blocks")
    return blocks


def _structure(arguments: Arguments, name: str, refusal: str) -> Any:
    """An argument that is JSON within a form, or plain members within JSON."""
    value = arguments.get(name)
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value) if value else None
    except (ValueError, RecursionError) as error:
        raise Refused(refusal) from error


def _shown(message: dict[str, Any], *, with_metadata: bool = False) -> dict[str, Any]:
    shown = {
        "type": "message",
        "user": "U0SANDBOX",
        "bot_id": "B0SANDBOX",
        "ts": message["ts"],
        "text": message["text"],
        "blocks": message["blocks"],
    }
    if message.get("thread_ts"):
        shown["thread_ts"] = message["thread_ts"]
    if with_metadata and message["metadata"] is not None:
        shown["metadata"] = message["metadata"]
    return shown


def _order(ts: str) -> tuple[int, int]:
    seconds, _, rest = ts.partition(".")
    return int(seconds), int(rest.ljust(9, "0"))


def _ts(arguments: Arguments, name: str) -> tuple[int, int] | None:
    value = arguments.get(name)
    if value is None or value == "":
        return None
    if not _TS.fullmatch(str(value)):
        raise Refused(f"invalid_ts_{name}")
    return _order(str(value))


def _page_size(value: Any) -> int:
    if value is None or value == "":
        return _PAGE_SIZE
    if not re.fullmatch(r"\d{1,6}", str(value), re.ASCII) or not 1 <= int(value) <= _LARGEST_PAGE:
        raise Refused("invalid_limit")
    return int(value)


def _cursor(ts: str) -> str:
    return base64.urlsafe_b64encode(f"before:{ts}".encode()).decode()


def _read_cursor(value: Any) -> tuple[int, int] | None:
    if value is None or value == "":
        return None
    try:
        name, _, ts = base64.urlsafe_b64decode(str(value)).decode().partition(":")
    except (binascii.Error, ValueError) as error:
        raise Refused("invalid_cursor") from error
    if name != "before" or not _TS.fullmatch(ts):
        raise Refused("invalid_cursor")
    return _order(ts)


def _is_true(value: Any) -> bool:
    return value is True or str(value).lower() in ("1", "true")
