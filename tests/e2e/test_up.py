"""`assistance up` as a stranger uses it: started as a process, asked over HTTP, stopped and killed by signals."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from assistance.embedded.ports import free_port

NOBODY = 65534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--")

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc"),
    pytest.mark.timeout(240),
]


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

    def start(self, seconds: float = 60) -> None:
        said = self.said().count("is running at")
        self.process = self.launch("--port", str(self.port))
        wait_for(lambda: self.said().count("is running at") > said or self.process_ended(), seconds, "the welcome")
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


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    made = Installation(tmp_path)
    yield made
    made.kill_everything()


@pytest.fixture(params=["ourselves", "nobody"])
def anybodys_installation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installation]:
    if request.param == "ourselves":
        made = Installation(tmp_path)
        yield made
        made.kill_everything()
        return
    if os.geteuid() != 0:
        pytest.skip("only root can become nobody")
    if subprocess.run([*AS_NOBODY, sys.executable, "-c", "import assistance"], cwd="/", capture_output=True).returncode:
        pytest.skip("nobody cannot read this checkout or its Python")
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders admit root only
        os.chown(folder, NOBODY, NOBODY)
        made = Installation(Path(folder), *AS_NOBODY, HOME=folder)
        yield made
        made.kill_everything()


def seconds_until_seen(installation: Installation, topic: str, text: str) -> float:
    began = time.monotonic()
    request_id = installation.post(topic, text)
    wait_for(lambda: text in installation.page(), 10, f"{text} on the page")
    seconds = time.monotonic() - began
    wait_for(lambda: installation.status(request_id) == "delivered", 10, "delivered")
    return seconds


def test_sales_and_pricing_arrive_within_a_second_and_sigterm_leaves_nothing_running(
    anybodys_installation: Installation,
) -> None:
    installation = anybodys_installation
    installation.start()
    for topic in ("sales", "pricing"):
        assert min(seconds_until_seen(installation, topic, f"{topic} try {number}") for number in range(3)) < 1
    assert (installation.folder.stat().st_mode & 0o777) == 0o700
    assert installation.signal(signal.SIGTERM) == 0
    installation.nothing_runs(1)
    installation.start()
    assert "sales try 1" in installation.page()


def test_everything_accepted_is_delivered_after_kill_9_of_everything(installation: Installation) -> None:
    installation.start()
    installation.order(slack={"fail_next": 1000, "with": "slow", "seconds": 60}, smtp={"refuse_next": 1000})
    texts = [f"accepted number {number}" for number in range(4)]
    accepted = [installation.post(topic, text) for text in texts for topic in ("sales", "pricing")]
    assert not any(text in installation.page() for text in texts)
    installation.kill_everything()
    installation.start()
    wait_for(lambda: {installation.status(each) for each in accepted} == {"delivered"}, 90, "everything delivered")
    page = installation.page()
    slack, mailbox = page.split('aria-label="Mailbox"')
    assert all(text in slack and text in mailbox for text in texts)
    assert [slack.count(text) for text in texts] == [1] * len(texts)


def test_kill_9_of_up_alone_leaves_nothing_running_and_the_next_start_continues(installation: Installation) -> None:
    installation.start()
    request_id = installation.post("sales", "before the kill")
    wait_for(lambda: installation.status(request_id) == "delivered", 5, "delivered")
    assert installation.signal(signal.SIGKILL) == -signal.SIGKILL
    installation.start()  # at once, while the others are still leaving
    assert installation.status(request_id) == "delivered"
    installation.signal(signal.SIGKILL)
    installation.nothing_runs()


def test_sigint_stops_everything_also_when_a_script_ignores_it(tmp_path: Path) -> None:
    installation = Installation(tmp_path, "sh", "-c", 'trap "" INT; exec "$@"', "sh")
    try:
        installation.start()
        assert installation.signal(signal.SIGINT) == 0
        installation.nothing_runs(1)
    finally:
        installation.kill_everything()


def test_ctrl_c_reaches_the_whole_group_and_still_ends_cleanly(installation: Installation) -> None:
    installation.start()
    assert installation.process is not None
    os.killpg(installation.process.pid, signal.SIGINT)
    assert installation.process.wait(60) == 0
    installation.nothing_runs(1)
    assert "up.restarting" not in installation.said()


@pytest.mark.parametrize(
    "victim", ["assistance api", "assistance worker", "assistance.embedded.sandbox", "postgres -D"]
)
def test_what_dies_is_restarted_and_the_service_returns(installation: Installation, victim: str) -> None:
    installation.start()
    before = installation.pids_of(victim)
    os.kill(before[0], signal.SIGKILL)  # the oldest; a web server's own workers look the same
    wait_for(lambda: set(installation.pids_of(victim)) - set(before), 20, "a new process")
    wait_for(lambda: installation.posts("sales", "after the crash"), 30, "an accepted request")
    wait_for(lambda: "after the crash" in installation.page(), 30, "the message")

    def is_ready() -> bool:
        with contextlib.suppress(OSError):
            return bool(urllib.request.urlopen(installation.url("/readyz"), timeout=5).close() is None)
        return False

    wait_for(is_ready, 30, "readiness")
    assert installation.signal(signal.SIGTERM) == 0
    installation.nothing_runs(1)


def test_what_up_cannot_work_with_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert installation.refused("--port", str(port)).strip() == (
            f"Port {port} is in use: stop what listens there, or name another with --port."
        )
    (tmp_path / "file").touch()
    other = Installation(tmp_path / "file")
    other.log = tmp_path / "other.log"
    assert other.refused("--port", "0").strip() == f"The folder {other.folder} cannot be used: not a directory."
    public = Installation(tmp_path, ASSISTANCE_HTTP_HOST="0.0.0.0")
    assert "listens on 127.0.0.1 only" in public.refused("--port", "0")
    misspelt = Installation(tmp_path, ASSISTANCE_HTPP_PORT="1")
    assert "ASSISTANCE_HTPP_PORT is not a setting, did you mean" in misspelt.refused("--port", "0")
    for tried in (installation, other, public, misspelt):
        tried.nothing_runs(1)


def test_a_broken_configuration_file_is_explained_and_leaves_nothing_running(tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("[channels.x]\ntype = 'pigeon'\n")
    installation = Installation(tmp_path, ASSISTANCE_CONFIG=str(tmp_path / "broken.toml"))
    try:
        said = installation.refused("--port", "0")
        assert "pigeon" in said
        assert "Traceback" not in said
        installation.nothing_runs(1)
    finally:
        installation.kill_everything()


def test_a_folder_belongs_to_one_up_at_a_time(installation: Installation) -> None:
    installation.start()
    said = installation.refused("--port", "0")
    assert said.strip().endswith(f"Another `assistance up` is running in {installation.folder}.")
    assert installation.post("sales", "the first one goes on")
