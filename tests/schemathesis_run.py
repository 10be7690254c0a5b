"""Calls of every operation, made up by Schemathesis from the description of the API, and checked by it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import schemathesis
from flask import Flask
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import from_schema
from schemathesis.engine.events import FatalError, NonFatalError, ScenarioFinished
from werkzeug.serving import make_server

#: Whose calls leave this machine: they are tested where another server stands in for the internet.
_ELSEWHERE = ("register_webhook", "test_webhook")
_CONFIGURATION = """
seed = {seed}
suppress-health-check = ["all"]

[generation]
max-examples = {cases}
database = "none"

[phases.stateful]
generation.max-examples = {chains}

[auth.openapi.bearer]
bearer = "{key}"

[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", "401", "403", "404", "409", "422", "429"]
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A call whose answer is not what the description says."""

    operation: str
    check: str
    said: str
    curl: str

    def __str__(self) -> str:
        return f"{self.operation}, {self.check}: {self.said}\n    {self.curl}"


@dataclass(kw_only=True, slots=True)
class Run:
    """What was called and found."""

    calls: int
    findings: list[Finding]


def run(app: Flask, *, key: str, cases: int, chains: int, seed: int) -> Run:
    """Call every operation with as many made-up cases, right and wrong ones, and with chains of calls, over HTTP."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        return _run(f"http://127.0.0.1:{server.server_port}", key, cases, chains, seed)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _run(url: str, key: str, cases: int, chains: int, seed: int) -> Run:
    config = SchemathesisConfig.from_str(_CONFIGURATION.format(seed=seed, cases=cases, chains=chains, key=key))
    headers = {"Authorization": f"Bearer {key}"}
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=config, headers=headers)
    done = Run(calls=0, findings=[])
    for event in from_schema(schema.exclude(operation_id=list(_ELSEWHERE))).execute():
        if isinstance(event, ScenarioFinished):
            done.calls += len(event.recorder.interactions)
            done.findings += _findings(event)
        elif isinstance(event, NonFatalError | FatalError):
            raise AssertionError(str(getattr(event, "info", event)))
    return done


def _findings(event: ScenarioFinished) -> Iterator[Finding]:
    for checks in event.recorder.checks.values():
        for check in checks:
            if check.failure_info is not None:
                failure = check.failure_info.failure
                yield Finding(
                    operation=event.label or "",
                    check=check.name,
                    said=f"{failure.title}: {failure.message}",
                    curl=check.failure_info.code_sample,
                )
