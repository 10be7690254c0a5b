"""Slack, with a bot token: Block Kit messages that carry the delivery id as metadata, so that they can be looked up."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any
from urllib.request import Request

from pydantic import AfterValidator, Field, SecretStr
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from assistance.channels import slack_message
from assistance.channels.contract import Capabilities, ChannelType, DeliveryKey, Health, Rendered, View
from assistance.channels.http import Answer, NoAnswer, parse_endpoint, post
from assistance.channels.http_line import Line
from assistance.channels.kept import Kept
from assistance.channels.options import ChannelOptions, Secret
from assistance.channels.slack_answers import Refusal, as_lookup, refusal_of_code, refusal_of_status
from assistance.channels.wire import NotConnected
from assistance.domain.outcome import (
    CannotTell,
    Delivered,
    Found,
    Lookup,
    NotFound,
    Outcome,
    Rejected,
    RejectionReason,
    RetryLater,
    Unknown,
)
from assistance.runtime.clock import Deadline

_EVENT_TYPE = "assistance_delivery"
_CLOCK_MARGIN_SECONDS = 60  # how far Slack's clock may be behind ours before a look-up misses a message
_PAGE_SIZE = 200
_PACE_PER_SECOND = 1.0  # what Slack allows in one conversation; short bursts are tolerated, lasting ones refused
_MOST_PAGES = 10

# The library logs whole requests at debug level, customer text included; what failed is in the outcome.
_silent = logging.getLogger("assistance.channels.slack.library")
_silent.setLevel(logging.CRITICAL + 1)


def _checked_token(token: SecretStr) -> SecretStr:
    value = token.get_secret_value()
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("the token holds characters that no Slack token has")
    return token


def _checked_url(url: str) -> str:
    if parse_endpoint(url).authorization:
        raise ValueError("the URL may not hold credentials")
    return url


class SlackOptions(ChannelOptions):
    """What a Slack channel is configured with; the conversation is named by its id, as a look-up needs it."""

    token: Annotated[Secret, AfterValidator(_checked_token)]
    channel: Annotated[str, Field(pattern=r"^[CDG][A-Z0-9]{2,20}$")]
    api_url: Annotated[str, AfterValidator(_checked_url)] = "https://slack.com/api/"


class _Refused(Exception):
    """Slack did not do it, or nobody knows; carries what that means."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal


class _Client(WebClient):
    """Slack's library for the shape of its calls, our own HTTP for everything that concerns time and certainty.

    The library would repeat a POST whose connection was reset, follow redirects, obey proxy variables, and wait for
    ever for a server that sends a byte now and then.
    """

    def __init__(self, options: SlackOptions, deadline: Deadline, kept: Kept[Line]) -> None:
        token = options.token.get_secret_value()
        super().__init__(token=token, base_url=options.api_url, retry_handlers=[], logger=_silent)
        self._deadline = deadline
        self._kept = kept
        self.answer: Answer | None = None

    def _perform_urllib_http_request_internal(self, url: str, req: Request) -> dict[str, Any]:
        """The one method of the library that does I/O; the contract suite notices when that changes."""
        body = req.data if isinstance(req.data, bytes) else b""
        try:
            answer = post(parse_endpoint(url), body, dict(req.header_items()), self._deadline, kept=self._kept)
        except NotConnected as problem:
            raise _Refused(RetryLater(code=problem.code, detail=problem.detail, answered=False)) from problem
        except NoAnswer as problem:
            raise _Refused(Unknown(code=problem.code, detail=problem.detail, answered=False)) from problem
        if answer.http_status != 200 or not _is_slack_json(answer):
            raise _Refused(refusal_of_status(answer))
        self.answer = answer
        return {"status": 200, "headers": dict(answer.headers), "body": answer.body.decode()}

    def call(self, method: str, **arguments: Any) -> Mapping[str, Any]:
        """Call one of the library's methods; raises `_Refused` for anything but a yes."""
        try:
            data = getattr(self, method)(**arguments).data
        except SlackApiError as error:
            assert self.answer is not None
            code = str(error.response.get("error") or "no_error_code")
            raise _Refused(refusal_of_code(code, self.answer)) from error
        return data if isinstance(data, dict) else {}


class SlackChannel:
    """One Slack conversation that messages are posted to."""

    def __init__(self, options: SlackOptions) -> None:
        self._options = options
        self._kept = Kept[Line]()

    @property
    def destination(self) -> Mapping[str, Any]:
        """The conversation's id."""
        return {"channel": self._options.channel}

    def render(self, view: View) -> Rendered:
        """Block Kit and one line of text."""
        return slack_message.render(view)

    def send(self, rendered: Rendered, destination: Mapping[str, Any], key: DeliveryKey, deadline: Deadline) -> Outcome:
        """Post the message once."""
        conversation_id = destination.get("channel")
        if not isinstance(conversation_id, str):
            detail = "the destination names no Slack conversation"
            return Rejected(code="bad_destination", detail=detail, reason=RejectionReason.DESTINATION)
        try:
            data = _Client(self._options, deadline, self._kept).call(
                "chat_postMessage",
                channel=conversation_id,
                text=rendered.text,
                blocks=rendered.content["blocks"],
                thread_ts=_thread_of(destination),
                metadata={"event_type": _EVENT_TYPE, "event_payload": _payload(key)},
                unfurl_links=False,
                unfurl_media=False,
                link_names=False,
                parse="none",
            )
        except _Refused as refused:
            return refused.refusal
        if not isinstance(data.get("ts"), str):
            return Unknown(code="not_slack", detail="the answer names no message")
        return Delivered(receipt={"channel": data.get("channel", conversation_id), "ts": data["ts"]})

    def lookup(self, destination: Mapping[str, Any], key: DeliveryKey, since: datetime, deadline: Deadline) -> Lookup:
        """Read the conversation's history, or a thread of it, for a message with this key, 2,000 messages at most."""
        conversation_id = destination.get("channel")
        if not isinstance(conversation_id, str):
            return CannotTell(code="bad_destination", detail="the destination names no Slack conversation")
        try:
            for message in self._history(conversation_id, _thread_of(destination), since, deadline):
                if _carries(message, key):
                    return Found(receipt={"channel": conversation_id, "ts": message.get("ts")})
        except _Refused as refused:
            return as_lookup(refused.refusal)
        except _HistoryTooLong:
            return CannotTell(code="history_too_long", detail="too many messages were posted since")
        return NotFound()

    def check(self, deadline: Deadline) -> Health:
        """Ask who the token is, whether it may post, and read one message, as a look-up would."""
        client = _Client(self._options, deadline, self._kept)
        problems = []
        for method, arguments in (
            ("auth_test", {}),
            ("conversations_history", {"channel": self._options.channel, "limit": 1}),
        ):
            try:
                client.call(method, **arguments)
            except _Refused as refused:
                problems.append(f"Slack's {method.replace('_', '.', 1)} failed: {refused.refusal.detail}.")
        scopes = client.answer.header("x-oauth-scopes") if client.answer else None
        if scopes is not None and "chat:write" not in {scope.strip() for scope in scopes.split(",")}:
            problems.append("The Slack token lacks the scope chat:write.")
        return Health(problems=tuple(problems))

    def _history(
        self, conversation_id: str, thread: str | None, since: datetime, deadline: Deadline
    ) -> Iterator[Mapping[str, Any]]:
        method, of_thread = ("conversations_replies", {"ts": thread}) if thread else ("conversations_history", {})
        client = _Client(self._options, deadline, self._kept)
        cursor: str | None = None
        for _ in range(_MOST_PAGES):
            page = client.call(
                method,
                channel=conversation_id,
                oldest=f"{since.timestamp() - _CLOCK_MARGIN_SECONDS:.6f}",
                include_all_metadata=True,
                limit=_PAGE_SIZE,
                cursor=cursor,
                **of_thread,
            )
            messages = page.get("messages")
            if not isinstance(messages, list):
                raise _Refused(Unknown(code="not_slack", detail="the history holds no list of messages"))
            yield from (message for message in messages if isinstance(message, dict))
            cursor = (page.get("response_metadata") or {}).get("next_cursor")
            if not cursor:
                return
        raise _HistoryTooLong


def _thread_of(destination: Mapping[str, Any]) -> str | None:
    """The message that a follow-up goes below; none when it was confirmed by hand, or lies in another conversation."""
    root = destination.get("thread")
    if not isinstance(root, Mapping) or root.get("channel") != destination.get("channel"):
        return None
    ts = root.get("ts")
    return ts if isinstance(ts, str) else None


class _HistoryTooLong(Exception):
    """More messages were posted since than a look-up reads."""


def _payload(key: DeliveryKey) -> dict[str, Any]:
    return {"delivery_id": str(key.delivery_id), "series": key.series}


def _carries(message: Mapping[str, Any], key: DeliveryKey) -> bool:
    metadata = message.get("metadata")
    return (
        isinstance(metadata, dict)
        and metadata.get("event_type") == _EVENT_TYPE
        and metadata.get("event_payload") == _payload(key)
    )


def _is_slack_json(answer: Answer) -> bool:
    try:
        data = json.loads(answer.body.decode()) if answer.is_whole else None
    except (ValueError, RecursionError):
        return False
    return isinstance(data, dict) and isinstance(data.get("ok"), bool)


CHANNEL_TYPE = ChannelType(
    name="slack",
    capabilities=Capabilities(lookup=True, follow_ups=True, pace_per_second=_PACE_PER_SECOND),
    options=SlackOptions,
    build=SlackChannel,
    preview=slack_message.preview,
)
