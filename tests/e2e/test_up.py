"""`assistance up` as a stranger uses it: started as a process, asked over HTTP, stopped and killed by signals."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.installation import Installation, wait_for

NOBODY = 65534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--")

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc"),
    pytest.mark.timeout(240),
]


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
    # Through a shell, because setpriv itself still has root's eyes when it starts a program.
    probe = [*AS_NOBODY, "sh", "-c", '"$0" -c "import assistance.storage.migrate"', sys.executable]
    if subprocess.run(probe, cwd="/", capture_output=True).returncode:
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


def test_the_command_line_finds_the_installation_through_its_env_file(installation: Installation) -> None:
    installation.start()
    env_file = installation.folder / "env"
    assert env_file.stat().st_mode & 0o777 == 0o600
    done = subprocess.run(
        ["sh", "-c", f'. {env_file} && "{sys.executable}" -m assistance ledger'],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "The ledger closes.")


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
