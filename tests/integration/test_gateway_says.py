"""What the gateway says when the API is away, and what it writes down: nothing about anybody's customers."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from assistance.embedded.ports import free_port
from tests.builders import eventually
from tests.integration.test_api_over_granian import Server, server, wait_until_it_answers
from tests.servers.nginx import start_gateway

__all__ = ["server"]  # a fixture


@contextlib.contextmanager
def gateway(program: Path, folder: Path, api_port: int) -> Iterator[Server]:
    port = free_port()
    process = start_gateway(program, folder, port=port, api_port=api_port)
    try:
        wait_until_it_answers(port, process)
        yield Server(port)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()


def call(through: Server, method: str, path: str) -> tuple[int, dict[str, Any]]:
    """Status and problem; a HEAD has none."""
    length = "Content-Length: 0\r\n" if method == "POST" else ""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{length}Connection: close\r\n\r\n"
    answer = through.exchange(head.encode())
    top, _, body = answer.partition(b"\r\n\r\n")
    return int(top.split()[1]), json.loads(body) if body.startswith(b"{") else {}


def test_of_a_call_that_was_to_store_something_nobody_claims_to_know(nginx: Path, tmp_path: Path) -> None:
    stores = ["/assistance", "/assistance/batch", "/assistance/x/messages", "/assistance/x/cancel"]
    stores += ["/webhooks", "/customers/x/erase", "/ingest/github"]
    with gateway(nginx, tmp_path, free_port()) as through:
        for path in stores:
            status, problem = call(through, "POST", path)
            assert (status, problem["code"], problem["retryable"]) == (503, "commit-unknown", True), path
        status, problem = call(through, "GET", "/assistance/x")
        assert (status, problem["code"]) == (503, "storage-unavailable")
        assert call(through, "HEAD", "/assistance/x") == (503, {})


def test_the_log_of_calls_names_no_customer_and_no_secret(nginx: Path, server: Server, tmp_path: Path) -> None:
    with gateway(nginx, tmp_path, server.port) as through:
        for path in ("/customers/canary/export?client=canary", "/assistance?customer=canary", "/canary?key=canary"):
            assert call(through, "GET", path)[0] in (200, 404)

        def lines() -> list[dict[str, Any]]:
            text = (tmp_path / "nginx.log").read_text()
            return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

        eventually(lambda: len(lines()) == 3)
        last = lines()[-1]
    assert "canary" not in (tmp_path / "nginx.log").read_text()
    assert (last["method"], last["status"], last["from"]) == ("GET", 404, "127.0.0.1")
    assert last["request_id"]
