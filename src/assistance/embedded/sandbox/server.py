"""The sandbox's process: its HTTP door, its mail server, and their common memory."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import structlog
from pydantic import ValidationError

from assistance.domain.errors import SettingsError
from assistance.embedded.sandbox.faults import Failure, Faults, Orders
from assistance.embedded.sandbox.mail import MailSink
from assistance.embedded.sandbox.slack import Refused, SlackApi
from assistance.embedded.sandbox.store import Store
from assistance.runtime.addresses import is_loopback, names_loopback

log = structlog.get_logger()

_LARGEST_BODY = 1024 * 1024
_MOST_MESSAGES = 10_000
_API = "/api/"
#: How long a sandbox that was told to stop may still hold the folder.
_LEAVING_SECONDS = 10


class Sandbox:
    """A local Slack and mail server; port 0 picks a free one. Raises `SettingsError` when it cannot be set up."""

    def __init__(
        self, host: str, slack_port: int, smtp_port: int, folder: Path, *, patience_seconds: float = 0
    ) -> None:
        self._store = Store(folder, patience_seconds=patience_seconds)
        self._stopping = threading.Event()
        faults = Faults()
        try:
            self._http = _listen(host, slack_port, self._store, faults, self._stopping)
            try:
                self._mail = MailSink(host, smtp_port, self._store, faults)
            except SettingsError:
                self._http.server_close()
                raise
        except SettingsError:
            self._store.close()
            raise
        self.slack_port: int = self._http.server_address[1]
        self.smtp_port = self._mail.port
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.1,), name="slack", daemon=True)

    def start(self) -> None:
        """Begin to answer; returns at once."""
        self._mail.start()
        self._thread.start()

    def stop(self) -> None:
        """Stop answering and give ports and folder back. Only after `start`."""
        self._stopping.set()
        self._http.shutdown()
        self._http.server_close()
        self._mail.stop()
        self._store.close()


def serve_sandbox(host: str, slack_port: int, smtp_port: int, folder: Path, stop: threading.Event) -> None:
    """Run the sandbox until `stop` is set. Raises `SettingsError` when a port is taken or the folder not writable."""
    sandbox = Sandbox(host, slack_port, smtp_port, folder, patience_seconds=_LEAVING_SECONDS)
    sandbox.start()
    log.info("sandbox.started", host=host, slack_port=sandbox.slack_port, smtp_port=sandbox.smtp_port)
    stop.wait()
    sandbox.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        # Clients that hang up are what a sandbox is for; only our own mistakes deserve a line.
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            log.error("sandbox.failed", exc_info=error)


def _listen(host: str, port: int, store: Store, faults: Faults, stopping: threading.Event) -> _Server:
    api = SlackApi(store, faults)

    class Handler(_Handler):
        pass

    Handler.store, Handler.faults, Handler.api, Handler.stopping = store, faults, api, stopping
    try:
        return _Server((host, port), Handler)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SettingsError(f"The sandbox cannot listen on {host}:{port}: {reason}.") from error


class _BadRequest(Exception):
    """The request cannot be read; its text says why."""


class _Handler(BaseHTTPRequestHandler):
    store: Store
    faults: Faults
    api: SlackApi
    stopping: threading.Event

    protocol_version = "HTTP/1.1"
    timeout = 30  # seconds of silence before a connection is given up
    wbufsize = -1  # header and body leave in one packet

    def parse_request(self) -> bool:
        """Refuse a page in a browser on this machine that had its own name lead here."""
        if not super().parse_request():
            return False
        is_ours = names_loopback(self.headers.get("Host") or "localhost")
        if not is_ours and is_loopback(self.connection.getsockname()[0]):
            self.close_connection = True
            self._answer(421, {"error": "This sandbox is called by the name of this machine only."})
            return False
        return True

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/livez":
            self._answer(200, {"status": "ok"})
        elif url.path == "/messages":
            self._answer(200, self.store.newest(_limit(dict(parse_qsl(url.query)))))
        elif url.path.startswith(_API):
            self._call(url.path.removeprefix(_API), url.query)
        else:
            self._answer(404, {"error": "The sandbox has /api/, /callbacks, /messages, /control and /livez."})

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        if url.path.startswith(_API):
            self._call(url.path.removeprefix(_API), url.query)
        elif url.path == "/control":
            self._control()
        elif url.path == "/callbacks":
            self._take_callback()
        else:
            self.close_connection = True
            self._answer(404, {"error": "The sandbox has /api/, /callbacks, /messages, /control and /livez."})

    def _take_callback(self) -> None:
        """What a bot's server does first with a callback: keep it, and say yes only then."""
        try:
            callback = {
                "webhook_id": self.headers.get("webhook-id", ""),
                "signature": self.headers.get("webhook-signature", ""),
                "body": json.loads(self._body()),
            }
            self.store.add_callback(callback)
        except (_BadRequest, ValueError, RecursionError) as error:
            self._answer(400, {"error": str(error)})
        except OSError as error:
            log.warning("sandbox.disk_refused", reason=error.strerror)
            self._answer(503, {"error": "The disk refused."})
        else:
            self._answer(200, {"ok": True})

    def _control(self) -> None:
        try:
            self.faults.order(Orders.model_validate_json(self._body()))
        except ValidationError as error:
            problems = [f"{'.'.join(map(str, item['loc'])) or 'body'}: {item['msg']}" for item in error.errors()]
            self._answer(400, {"error": "; ".join(problems)})
        except _BadRequest as error:
            self._answer(400, {"error": str(error)})
        else:
            self._answer(200, self.faults.standing().model_dump(by_alias=True))

    def _call(self, name: str, query: str) -> None:
        try:
            answer = self._result(name, query)
        except Refused as refusal:
            answer = {"ok": False, "error": refusal.code}
        except OSError as error:
            # The disk refused. What was not kept must not be confirmed.
            log.warning("sandbox.disk_refused", reason=error.strerror)
            answer = {"ok": False, "error": "fatal_error"}
        if answer is not None:
            self._answer(200, answer)

    def _result(self, name: str, query: str) -> dict[str, Any] | None:
        """The answer to a call, or none when an ordered failure has answered already."""
        arguments = self._arguments(query)
        if name not in self.api.methods:
            raise Refused("unknown_method")
        if not (_bearer(self.headers.get("Authorization", "")) or arguments.get("token")):
            raise Refused("not_authed")
        method, strikes = self.api.methods[name]
        failure = self.faults.next_slack_failure() if strikes else None
        if failure is not None and self._failed(failure):
            return None
        return {"ok": True, **method(arguments)}

    def _failed(self, failure: Failure) -> bool:
        if failure.kind == "slow":
            self.stopping.wait(failure.seconds)
            return False
        if failure.kind == "http_500":
            self._answer(500, {"ok": False, "error": "http_500"})
        elif failure.kind == "ratelimited":
            retry_after = {"Retry-After": str(failure.retry_after)}
            self._answer(429, {"ok": False, "error": "ratelimited"}, retry_after)
        else:
            raise Refused(failure.kind)
        return True

    def _arguments(self, query: str) -> dict[str, Any]:
        try:
            body = self._body()
            arguments: dict[str, Any] = dict(parse_qsl(query, keep_blank_values=True))
            if self.headers.get_content_type() == "application/json":
                members = json.loads(body) if body else {}
                if not isinstance(members, dict):
                    raise Refused("json_not_object")
                return arguments | members
            return arguments | dict(parse_qsl(body.decode(), keep_blank_values=True))
        except _BadRequest as error:
            raise Refused("invalid_arguments") from error
        except RecursionError as error:
            raise Refused("invalid_json") from error
        except ValueError as error:
            is_json = self.headers.get_content_type() == "application/json"
            raise Refused("invalid_json" if is_json else "invalid_form_data") from error

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not (length.isascii() and length.isdigit()):
            self.close_connection = True
            raise _BadRequest("A body needs a Content-Length.")
        if int(length) > _LARGEST_BODY:
            self.close_connection = True
            raise _BadRequest(f"A body has {_LARGEST_BODY} bytes at most.")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            self.close_connection = True
            raise _BadRequest("The body ended early.")
        return body

    def _answer(self, http_status: int, content: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        body = json.dumps(content).encode()
        self.send_response(http_status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        return "assistance-sandbox"

    def log_message(self, *_: object) -> None:
        """What arrived is in the log of messages; a line per call would only hide it."""


def _bearer(header: str) -> str:
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _limit(query: Mapping[str, str]) -> int:
    value = query.get("limit", "")
    return (
        min(int(value), _MOST_MESSAGES) if value.isascii() and value.isdigit() and len(value) < 10 else _MOST_MESSAGES
    )
