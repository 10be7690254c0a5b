"""An `assistance up` under test: its folder, its port and every process it ever had."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from assistance.embedded.ports import free_port


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {seconds} s")


class Installation:
    """A folder, a port, and every process that was ever started with them."""

    def __init__(self, folder: Path, *prefix: str, **environment: str) -> None:
        self.folder = folder / "data"
        self.log = folder / "up.log"
        self.port = free_port()
        self._prefix = prefix
        self._mark = f"ASSISTANCE_TEST_RUN={uuid.uuid4()}"
        name, _, value = self._mark.partition("=")
        clean = {key: text for key, text in os.environ.items() if not key.startswith("ASSISTANCE_")}
        self._environment = {**clean, "ASSISTANCE_HTTP_WORKERS": "1", **environment, name: value}
        self.process: subprocess.Popen[bytes] | None = None
        self._launched: list[subprocess.Popen[bytes]] = []

    def launch(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = [*self._prefix, sys.executable, "-m", "assistance", "up", "--folder", str(self.folder), *arguments]
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, env=self._environment, cwd="/", start_new_session=True
            )
        self._launched.append(process)
        return process

    def start(self, *arguments: str, seconds: float = 60) -> None:
        said = self.said().count("is running at")
        self.process = self.launch("--port", str(self.port), *arguments)
        try:
            wait_for(lambda: self.said().count("is running at") > said or self.process_ended(), seconds, "the welcome")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.said()}") from error
        assert not self.process_ended(), self.said()

    def process_ended(self) -> bool:
        assert self.process is not None
        return self.process.poll() is not None

    def refused(self, *arguments: str) -> str:
        """Start in vain: exit code 2; returns what was said."""
        before = len(self.said())
        process = self.launch(*arguments)
        try:
            assert process.wait(60) == 2, self.said()
        finally:
            process.kill()
            process.wait()
        return self.said()[before:]

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8") if self.log.exists() else ""

    def signal(self, number: int, seconds: float = 60) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(seconds)

    def processes(self) -> dict[int, str]:
        """Every live process of this installation with its command line."""
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                ours = self._mark.encode() in (entry / "environ").read_bytes()
                if ours or (entry / "cwd").readlink().is_relative_to(self.folder):
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def pids_of(self, words: str) -> list[int]:
        """The processes whose command line contains the words, oldest first, without start-up wrappers."""
        return sorted(pid for pid, line in self.processes().items() if words in line and "$PPID" not in line)

    def kill_everything(self) -> None:
        while running := self.processes():
            for pid in running:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for process in self._launched:
                process.poll()
        for process in self._launched:
            process.kill()
            process.wait()

    def nothing_runs(self, seconds: float = 20) -> None:
        wait_for(lambda: not self.processes(), seconds, f"nothing running, but {self.processes()}")

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def post(self, topic: str, description: str) -> str:
        body = json.dumps({"topic": topic, "description": description}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url("/assistance"), data=body, headers=headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 202
            return str(json.load(answer)["id"])

    def posts(self, topic: str, description: str) -> bool:
        with contextlib.suppress(OSError):
            return bool(self.post(topic, description))
        return False

    def status(self, request_id: str) -> str:
        with urllib.request.urlopen(self.url(f"/assistance/{request_id}"), timeout=10) as answer:
            return str(json.load(answer)["status"])

    def page(self) -> str:
        with urllib.request.urlopen(self.url("/sandbox"), timeout=10) as answer:
            return str(answer.read().decode())

    def order(self, **orders: Any) -> None:
        config = (self.folder / "sandbox.toml").read_text(encoding="utf-8")
        api = next(line for line in config.splitlines() if line.startswith("api_url")).split('"')[1]
        request = urllib.request.Request(api.removesuffix("/api/") + "/control", data=json.dumps(orders).encode())
        urllib.request.urlopen(request, timeout=10).close()
