"""A whole installation as separate processes, as operators run it, on the servers that a test names."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from assistance.conciliation.ledger import read_ledger
from assistance.domain.errors import DatabaseUnavailable
from assistance.embedded.ports import free_port
from assistance.settings import environment_with
from assistance.storage.database import Database
from assistance.storage.migrate import migrate
from tests import nursery
from tests.nursery import Child

ROOT = Path(__file__).parents[2]

_CONFIGURATION = """
[channels.sales-team]
type = "slack"
token = "env:SLACK_BOT_TOKEN"
channel = "C024BE91L"
api_url = "http://127.0.0.1:{slack_port}/api/"
timeout = "2s"
probe_after = "300ms"
settle = "200ms"
retry = "quick"
pace = "1000/s"

[channels.pricing-inbox]
type = "email"
url = "smtp://127.0.0.1:{smtp_port}"
from = "Assistance <assistance@example.com>"
to = ["pricing@example.com"]
timeout = "2s"
probe_after = "300ms"
retry = "quick"

[channels.hook]
type = "webhook"
url = "http://127.0.0.1:{hook_port}/"
secret = "env:HOOK_SECRET"
timeout = "2s"
probe_after = "300ms"
retry = "doomed"

[retry.quick]
delays = ["100ms", "300ms", "1s"]
give_up_after = "5m"

[retry.doomed]
delays = ["100ms", "200ms", "400ms", "1m"]
give_up_after = "30s"
jitter = 0.0

[topics]
sales = "sales-team"
pricing = "pricing-inbox"
both = ["sales-team", "pricing-inbox"]
hook = "hook"

[topics.backed]
to = "sales-team"
fallback = [{{to = "pricing-inbox", after = "1s"}}]
"""


class Installation:
    """API, relay, consumer, conciliation and the third parties; every process may be killed and started again."""

    SERVICES = ("api", "relay", "consumer", "conciliation")

    def __init__(self, folder: Path, database_url: str, broker_url: str) -> None:
        self.folder = folder
        self.http_port, self.slack_port, self.smtp_port, self.hook_port = (free_port() for _ in range(4))
        configuration = folder / "assistance.toml"
        configuration.write_text(
            _CONFIGURATION.format(slack_port=self.slack_port, smtp_port=self.smtp_port, hook_port=self.hook_port)
        )
        self.environment = environment_with(
            database_url=database_url,
            broker_url=broker_url,
            config=configuration,
            http_port=self.http_port,
            http_workers=1,
            lease_seconds=4,
            check_after_seconds=2,
            conciliation_interval_seconds=0.5,
        ) | {"SLACK_BOT_TOKEN": "xoxb-canary", "HOOK_SECRET": "whsec_" + "c2VjcmV0" * 5, "COVERAGE_PROCESS_START": ""}
        #: What a service's environment has beside or instead of everybody's.
        self.environment_of: dict[str, dict[str, str]] = {}
        self.processes: dict[str, Child | subprocess.Popen[bytes]] = {}

    def start(self, *services: str) -> None:
        """Start the services that are named (all when none is), and wait for the API."""
        for service in services or ("sandbox", *self.SERVICES):
            self._start(service)
        if "api" in self.processes:
            wait_until(lambda: self.get("/readyz")[0] == 200, seconds=30, what="the API is ready")

    def _start(self, service: str) -> None:
        command = {
            "sandbox": [
                "-m",
                "tests.e2e.sandbox_process",
                str(self.slack_port),
                str(self.smtp_port),
                str(self.folder / "sandbox"),
            ],
            "api": ["-m", "assistance", "api"],
        }.get(service, [str(ROOT / "workers" / f"{service}.py")])
        environment = self.environment | self.environment_of.get(service, {})
        self.processes[service] = _start(command, environment, self.folder / f"{service}.log")

    def kill(self, service: str) -> None:
        """`kill -9` of the service and all its children."""
        process = self.processes.pop(service)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def terminate(self, service: str, seconds: float = 30) -> int:
        """SIGTERM; the exit code."""
        process = self.processes.pop(service)
        process.send_signal(signal.SIGTERM)
        return process.wait(seconds)

    def stop(self) -> None:
        """End whatever still runs."""
        for service in list(self.processes):
            self.kill(service)

    def cli(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the command line against this installation."""
        return subprocess.run(
            [sys.executable, "-m", "assistance", *words],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def ledger(self) -> str:
        """What `assistance ledger` says first, without a process for each look: `3 requests = 3 delivered`."""
        database = Database(self.environment["ASSISTANCE_DATABASE_URL"], pool_size=1)
        try:
            with database.transaction() as connection:
                counted = read_ledger(connection)
        except DatabaseUnavailable as error:
            return str(error)
        finally:
            database.close()
        parts = " + ".join(f"{number} {status}" for status, number in counted.requests.items())
        closes = "" if counted.closes else f"; violations: {counted.violations}"
        return f"{sum(counted.requests.values())} requests = {parts}{closes}"

    def log_lines(self, service: str) -> Iterator[dict[str, Any]]:
        for line in (self.folder / f"{service}.log").read_text(errors="replace").splitlines():
            if line.startswith("{"):
                yield json.loads(line)

    def post(
        self, topic: str, description: str, *, key: str | None = None, timeout: float = 10, **more: Any
    ) -> tuple[int, Any]:
        """The status (0 when no answer came) and the body of the answer; `more` are members of the request."""
        headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
        data = json.dumps({"topic": topic, "description": description, **more}).encode()
        return self._call(urllib.request.Request(self._url("/assistance"), data, headers), timeout)

    def post_until_accepted(self, topic: str, description: str, seconds: float = 60) -> str:
        """What a careful bot does: the same key again until it is told 202. The id."""
        key, deadline = str(uuid.uuid4()), time.monotonic() + seconds
        while time.monotonic() < deadline:
            status, body = self.post(topic, description, key=key)
            if status == 202:
                return str(body["id"])
            time.sleep(0.1)
        raise AssertionError("nobody accepted the request")

    def get(self, path: str) -> tuple[int, Any]:
        return self._call(urllib.request.Request(self._url(path)), 10)

    def status_of(self, request_id: str) -> str:
        status, body = self.get(f"/assistance/{request_id}")
        return str(body["status"]) if status == 200 else f"HTTP {status}"

    def post_many(self, topic: str, number: int, *, threads: int = 8, per_second: float | None = None) -> list[str]:
        """Descriptions are numbered from 0; the ids in that order."""
        started = time.monotonic()

        def one(index: int) -> str:
            if per_second:
                time.sleep(max(0.0, started + index / per_second - time.monotonic()))
            return self.post_until_accepted(topic, f"request {index}")

        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(one, range(number)))

    def slack_messages(self) -> Counter[str]:
        """How often each text (without topic and ref) arrived at Slack."""
        messages = self._sandbox("/messages")["slack"].get("C024BE91L", [])
        return Counter(message["text"].partition(": ")[2] for message in messages)

    def mails(self) -> Counter[str]:
        """How often each text arrived in the mailbox."""
        return Counter(mail["body"].strip().splitlines()[-1] for mail in self._sandbox("/messages")["mails"])

    def control(self, orders: dict[str, Any]) -> None:
        """Tell the sandbox to fail."""
        self._sandbox("/control", json.dumps(orders).encode())

    def _sandbox(self, path: str, data: bytes | None = None) -> Any:
        call = urllib.request.Request(
            f"http://127.0.0.1:{self.slack_port}{path}", data, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(call, timeout=10) as answer:
            return json.loads(answer.read() or b"null")

    def _url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.http_port}{path}"

    def _call(self, call: urllib.request.Request, timeout: float) -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(call, timeout=timeout) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read() or b"null")
        except (OSError, ValueError, http.client.HTTPException):
            return 0, None


def _start(command: list[str], environment: dict[str, str], log: Path) -> Child | subprocess.Popen[bytes]:
    """Start Python; from nothing only if it is to find other libraries than this process."""
    if all(environment.get(name) == os.environ.get(name) for name in ("PYTHONPATH", "LD_PRELOAD")):
        return nursery.start(command, environment, log)
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True
        )


@contextmanager
def installation(folder: Path, database_url: str, broker_url: str) -> Iterator[Installation]:
    """A migrated installation with everything started; stopped at the end."""
    migrate(database_url)
    running = Installation(folder, database_url, broker_url)
    try:
        running.start()
        yield running
    finally:
        running.stop()


def wait_until(condition: Callable[[], object], *, seconds: float, what: str) -> None:
    """Wait for a condition; an error while asking counts as not yet."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)


def wait_while_growing(count: Callable[[], int], goal: int, *, stuck_seconds: float = 60, what: str) -> None:
    """Wait until `count` is `goal`, however slow the machine is; fails when it does not grow any more."""
    seen, grew = -1, time.monotonic()
    while (now := count()) < goal:
        if now > seen:
            seen, grew = now, time.monotonic()
        if time.monotonic() - grew > stuck_seconds:
            raise AssertionError(f"stuck at {now} of {goal} for {stuck_seconds:g} s: {what}")
        time.sleep(0.1)


@contextmanager
def under_load(running: Installation, topic: str, number: int, per_second: float) -> Iterator[list[str]]:
    """Post while the block runs; afterwards the list holds every accepted id."""
    ids: list[str] = []
    thread = threading.Thread(
        target=lambda: ids.extend(running.post_many(topic, number, per_second=per_second)), name="load"
    )
    thread.start()
    yield ids
    thread.join(120)
    assert not thread.is_alive(), "the load did not end"
