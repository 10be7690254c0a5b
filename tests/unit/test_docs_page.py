"""What `/docs` tells a newcomer is there, and works when it is copied."""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from werkzeug.serving import make_server

from assistance.api.openapi import document
from assistance.api.samples import PYTHON_START
from tests.memory_door import MemoryDoor

SAMPLES = {
    (operation["operationId"], sample["lang"]): sample["source"]
    for methods in document(())["paths"].values()
    for operation in methods.values()
    for sample in operation["x-codeSamples"]
}
of_shell = sorted(name for name, language in SAMPLES if language == "Shell")
of_python = [name for name, language in SAMPLES if language == "Python" and name != "ask"]
#: Prints the status in place of the answer.
QUIET_CURL = "curl() { command curl --silent --output /dev/null --write-out '%{http_code}' \"$@\"; }\n"


@pytest.fixture(scope="module")
def door() -> MemoryDoor:
    return MemoryDoor()


@pytest.fixture(scope="module")
def url(door: MemoryDoor) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, door.app(), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on this machine")
@pytest.mark.parametrize("name", of_shell)
def test_an_example_in_the_shell_is_a_call_that_the_api_understands(url: str, name: str) -> None:
    environment = {**os.environ, "ASSISTANCE_URL": url, "ASSISTANCE_KEY": "your-key", "SOURCE_SECRET": "s"}
    command = ["bash", "-e", "-c", QUIET_CURL + SAMPLES[name, "Shell"]]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)
    # Nothing here has the ids of the examples, and no source is configured.
    refused = ("401", "403") if name in ("ingest", "confirm_source") else ("404",)
    assert ran.stdout in ("200", "201", "202", *refused), (ran.stdout, ran.stderr)


@pytest.mark.parametrize("name", of_python)
def test_an_example_in_python_runs_after_the_first_one(
    url: str, door: MemoryDoor, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSISTANCE_URL", url)
    monkeypatch.setenv("ASSISTANCE_KEY", "your-key")
    known: dict[str, Any] = {}
    exec(f"{PYTHON_START}\n{SAMPLES['ask', 'Python']}", known)
    # Over, so that its events end.
    door.reading.happen(UUID(known["accepted"].id), "assistance.delivered", ended_at=datetime.now(UTC))
    exec(SAMPLES[name, "Python"], known)


def article(name: str) -> str:
    page = MemoryDoor().app().test_client().get("/docs").text
    (found,) = re.findall(rf'<article id="{name}">.*?</article>', page, re.DOTALL)
    return html.unescape(re.sub(r"<[^>]*>", "", found))


def test_every_answer_is_told_with_its_members_also_where_two_have_one_status() -> None:
    asked = article("ask")
    assert "It was added to the open request" in asked
    assert "event_version" in asked
    assert "For a dry run" in asked
    assert "after_seconds" in asked


def test_an_answer_without_a_body_is_told_too_also_when_it_is_a_refusal() -> None:
    assert "304 Nothing changed." in article("look")
    assert "403 The token is not the one" in article("confirm_source")
    assert "text/event-stream" in article("events")


def test_the_page_tells_nobody_how_the_service_is_built() -> None:
    page = MemoryDoor().app().test_client().get("/docs").text
    assert "deliveries.transition" not in page
    assert "docs/flow.md" not in page
