"""The API does what `/openapi.json` says, whatever it is sent: calls made up from the description, to a real server."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import pytest

from assistance.api.openapi import document
from assistance.clients import store
from assistance.conciliation.ledger import read_ledger
from assistance.configuration import load_configuration
from assistance.domain.caller import Scope
from assistance.domain.outcome import Delivered, Outcome, Rejected, RejectionReason, RetryLater, Unknown
from assistance.embedded.ports import free_port
from assistance.settings import environment_with
from tests.builders import Line, ScriptedChannel, World, eventually, in_transaction
from tests.schemathesis_run import Effort, Run, Source, run

# Whoever delivers takes its jitter from `random`, in another thread than the calls are made up in.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")

ROOT = Path(__file__).resolve().parents[2]
CONFIGURATION = """
[channels.people]
type = "webhook"
url = "http://127.0.0.1:9/"
secret = "env:HOOK_SECRET"

[channels.inbox]
type = "webhook"
url = "http://127.0.0.1:9/"
secret = "env:HOOK_SECRET"

[topics]
sales = "people"
pricing = ["people", "inbox"]

[topics.outage]
to = ["people"]
fallback = [{to = ["inbox"], after = "1s"}]

[sources.crm]
scheme = "hub"
secret = "env:CRM_SECRET"
verify_token = "env:CRM_TOKEN"

[sources.crm.request]
topic = "sales"
description = "{text}"
"""
CRM = Source(name="crm", secret="sixteen bytes or more", verify_token="the token of the sender")
ENVIRONMENT = {
    "HOOK_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "CRM_SECRET": CRM.secret,
    "CRM_TOKEN": CRM.verify_token,
}
#: What the channels answer in turn, so that requests and deliveries get into every state. What has to wait can be
#: cancelled in the meantime.
OUTCOMES: tuple[Outcome, ...] = (
    Delivered(receipt={"id": "r-1"}),
    RetryLater(code="busy", detail="Later.", retry_after_seconds=60.0),
    Delivered(receipt={"id": "r-2"}),
    RetryLater(code="busy", detail="Later.", retry_after_seconds=60.0),
    Rejected(code="no", detail="No.", reason=RejectionReason.CONTENT),
    Unknown(code="timeout", detail="Nobody knows."),
)


class Installation:
    """The API on its real server, and in this process whoever delivers."""

    def __init__(self, database_url: str, folder: Path) -> None:
        self.folder = folder
        config = folder / "assistance.toml"
        config.write_text(CONFIGURATION, encoding="utf-8")
        self.world = World(database_url)
        self.world.configuration = load_configuration(config)
        self.keys = {name: self._new_key(name) for name in ("bot", "other-bot")}
        self.viewer = self._new_key("viewer", Scope.VIEW)
        self.port = free_port()
        settings = environment_with(
            database_url=database_url,
            broker_url="amqp://127.0.0.1:9",
            config=config,
            http_port=self.port,
            log_level="error",
            client_rate_per_minute=1_000_000,
            client_open_requests=1_000_000,
        )
        command = [sys.executable, "-m", "granian", "--interface", "wsgi", "--http", "1", "--no-ws"]
        command += ["--host", "127.0.0.1", "--port", str(self.port), "--blocking-threads", "8"]
        with (folder / "api.log").open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "tests.schemathesis_app:wsgi"], cwd=ROOT, env=settings | ENVIRONMENT, stdout=log, stderr=log
            )
        channels = {name: ScriptedChannel(self._next_outcome()) for name in self.world.configuration.channels}
        self.line = Line(self.world, channels)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._deliver)
        self._thread.start()

    def _new_key(self, name: str, *scopes: Scope) -> str:
        scopes = scopes or (Scope.SUBMIT, Scope.READ)
        created = in_transaction(self.world.database, lambda connection: store.create(connection, name, scopes=scopes))
        return created.text

    def _next_outcome(self) -> Callable[[], Outcome]:
        outcomes = cycle(OUTCOMES)
        return lambda: next(outcomes)

    def _deliver(self) -> None:
        while not self._over.wait(0.1):
            self.line.relay.one_pass()
            self.line.watch.one_pass()
            self.world.fire_timers()

    def answers(self) -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            return True
        return False

    def stop(self) -> None:
        self._over.set()
        self._thread.join()
        self.line.stop()
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        self.process.kill()
        self.process.wait()
        self.world.close()


@pytest.fixture
def installation(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    running = Installation(database_url, tmp_path)
    try:
        eventually(running.answers, 90)
        yield running
    finally:
        running.stop()


def judge(done: Run, installation: Installation, *, least: int) -> None:
    """No finding, every operation called so often and also accepted, and every request accounted for."""
    called = sorted({operation for operation, _ in done.answers})
    for operation in called:
        statuses = {status: n for (name, status), n in sorted(done.answers.items()) if name == operation}
        print(f"{operation}: {done.with_status(operation)} calls, {statuses}")
    kinds = Counter((finding.operation, finding.check) for finding in done.findings)
    first_ones = {(finding.operation, finding.check): finding for finding in reversed(done.findings)}
    assert not done.findings, "\n".join(f"{n} times {first_ones[kind]}" for kind, n in kinds.items())
    described = {f"{method.upper()} {path}" for path, methods in document(())["paths"].items() for method in methods}
    # The description was read before anything could be made up.
    assert described - {"GET /openapi.json"} == set(called)
    assert not [operation for operation in called if not done.with_status(operation, range(200, 300))]
    assert sum(done.answers.values()) >= least
    assert installation.process.poll() is None
    assert in_transaction(installation.world.database, read_ledger).closes


@pytest.mark.alone
@pytest.mark.timeout(300)
def test_calls_made_up_from_the_description_are_answered_as_it_says(installation: Installation) -> None:
    effort = Effort(cases=5, chains=5, seed=20260304)
    url = f"http://127.0.0.1:{installation.port}"
    judge(run(url, installation.keys, installation.viewer, CRM, installation.folder, effort), installation, least=1_000)


@pytest.mark.long
@pytest.mark.timeout(3 * 3600)
def test_two_thousand_calls_of_each_operation_are_answered_as_the_description_says(installation: Installation) -> None:
    effort = Effort(cases=2_000, chains=500, seed=20260304)
    url = f"http://127.0.0.1:{installation.port}"
    judge(
        run(url, installation.keys, installation.viewer, CRM, installation.folder, effort), installation, least=30_000
    )
