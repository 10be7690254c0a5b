"""An installation for browsers: API with console, worker, sandbox, and the server of a webhook, over one database."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlalchemy import Row, text

from assistance.console.sessions import new_link
from assistance.domain.operator import Role
from assistance.embedded.ports import free_port
from assistance.settings import environment_with
from assistance.storage.database import Database
from tests import nursery

Found = TypeVar("Found")

_CONFIGURATION = """
[channels.sales-team]
type = "slack"
token = "env:SLACK_BOT_TOKEN"
channel = "C024BE91L"
api_url = "http://127.0.0.1:{slack_port}/api/"
retry = "quick"
pace = "1000/s"

[channels.pricing-inbox]
type = "email"
url = "smtp://127.0.0.1:{smtp_port}"
from = "Assistance <assistance@example.com>"
to = ["pricing@example.com"]
retry = "quick"

[channels.field-service]
type = "webhook"
url = "http://127.0.0.1:{hook_port}/"
secret = "env:HOOK_SECRET"
retry = "quick"

[channels.smoke-alarms]
type = "webhook"
url = "http://127.0.0.1:{hook_port}/"
secret = "env:HOOK_SECRET"
retry = "quick"

[retry.quick]
delays = ["100ms", "300ms", "1s"]
give_up_after = "5m"

[topics]
sales = "sales-team"
pricing = "pricing-inbox"
repairs = "field-service"
alarms = "smoke-alarms"
"""
#: Copies of a request whose one delivery is dead, with its letter: everything as it was, but the names and the time.
_COPIES = """
WITH given AS (SELECT CAST(:request AS uuid) AS id),
numbered AS (
    SELECT n, gen_random_uuid() AS request, gen_random_uuid() AS delivery FROM generate_series(1, :number) n
), asked AS (
    INSERT INTO requests SELECT (jsonb_populate_record(r, jsonb_build_object('id', request,
        'ref', 'C-' || left(md5(request::text), 9), 'description', r.description || ' (' || n || ')',
        'created_at', r.created_at - n * interval '1 second'))).*
    FROM requests r JOIN given USING (id), numbered
), told AS (
    INSERT INTO deliveries SELECT (
        jsonb_populate_record(d, jsonb_build_object('id', delivery, 'request_id', request))).*
    FROM deliveries d JOIN given ON d.request_id = given.id, numbered
)
INSERT INTO dead_letters (delivery_id, series, channel, source, reason, error, message_id, body, headers, created_at)
SELECT delivery, l.series, l.channel, l.source, l.reason, l.error, l.message_id, l.body, l.headers, l.created_at
FROM dead_letters l JOIN deliveries d ON d.id = l.delivery_id JOIN given ON d.request_id = given.id, numbered
"""


class Hook:
    """The server behind the channel `field-service`, which answers with `status`. Use it as a context manager."""

    def __init__(self) -> None:
        self.status = 200
        self.received: list[Any] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if hook.status == 200:
                    hook.received.append(body)
                self.send_response(hook.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, name="hook", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class Installation:
    """API, worker and sandbox over one database. Use it as a context manager; everything is stopped at the end."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self.folder = folder
        self.http_port, self._slack_port, self._smtp_port = (free_port() for _ in range(3))
        self._closing = ExitStack()
        self.hook = Hook()
        self.database = Database(database_url, pool_size=4)
        config = folder / "assistance.toml"
        config.write_text(
            _CONFIGURATION.format(slack_port=self._slack_port, smtp_port=self._smtp_port, hook_port=self.hook.port),
            encoding="utf-8",
        )
        self._environment = environment_with(
            database_url=database_url,
            broker_url="memory:",
            config=config,
            http_port=self.http_port,
            http_workers=1,
            conciliation_interval_seconds=0.5,
        ) | {"SLACK_BOT_TOKEN": "xoxb-canary", "HOOK_SECRET": "whsec_" + "c2VjcmV0" * 5, "COVERAGE_PROCESS_START": ""}

    def __enter__(self) -> Self:
        self._closing.callback(self.database.close)
        self._closing.enter_context(self.hook)
        places = [str(self._slack_port), str(self._smtp_port), str(self.folder / "sandbox")]
        for name, command in (
            ("sandbox", ["-m", "tests.e2e.sandbox_process", *places]),
            ("worker", ["-m", "assistance", "worker"]),
            ("api", ["-m", "assistance", "api"]),
        ):
            child = nursery.start(command, self._environment, self.folder / f"{name}.log")
            self._closing.callback(child.wait)
            self._closing.callback(child.kill)
        try:
            wait_until(self._is_ready, "everything is ready", seconds=60)
        except BaseException:
            self._closing.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.http_port}{path}"

    def link(self, role: Role, operator: str) -> str:
        """The address of a new link that signs somebody in once."""
        return self.database.run(lambda connection: new_link(connection, self.url(""), operator, role))

    def post(self, topic: str, description: str, **more: Any) -> Mapping[str, Any]:
        """Ask for assistance; the answer."""
        body = json.dumps({"topic": topic, "description": description, **more}).encode()
        call = urllib.request.Request(self.url("/assistance"), body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(call, timeout=30) as answer:
            found: Mapping[str, Any] = json.load(answer)
        return found

    def rows(self, statement: str, **values: Any) -> Sequence[Row[Any]]:
        with self.database.transaction() as connection:
            return connection.execute(text(statement), values).all()

    def now(self) -> str:
        """The database's time, as filters take it."""
        at = self.rows("""SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS at""")[0].at
        return str(at)

    def status_of(self, request_id: str) -> str:
        return str(self.rows("SELECT status FROM requests WHERE id = :id", id=request_id)[0].status)

    def ended_as(self, request_id: str, status: str) -> None:
        """Wait until the request stands like this."""
        wait_until(lambda: self.status_of(request_id) == status, f"the request is {status}")

    def dead_request(self, description: str, topic: str = "repairs", **more: Any) -> Mapping[str, Any]:
        """A request that the server of its channel refused for good."""
        self.hook.status = 422
        try:
            asked = self.post(topic, description, **more)
            self.ended_as(asked["id"], "undeliverable")
        finally:
            self.hook.status = 200
        return asked

    def dead_requests(self, description: str, topic: str, number: int) -> None:
        """Many of them: one that really died, and copies of it."""
        given = self.dead_request(description, topic)
        with self.database.transaction() as connection:
            connection.execute(text(_COPIES), {"request": given["id"], "number": number - 1})

    def stands_still(self, channel: str) -> bool:
        """Whether the consumer has noticed that its channel is out."""
        lines = (self.folder / "worker.log").read_text(encoding="utf-8").splitlines()
        said = [json.loads(line) for line in lines if "consumer.channel_mode" in line and f'"{channel}"' in line]
        return bool(said) and said[-1]["mode"] == "out"

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(self.url("/readyz"), timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def wait_until(condition: Callable[[], Found], what: str, *, seconds: float = 20) -> Found:
    """The first true value of `condition`; fails when none comes in time."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)
    return found
