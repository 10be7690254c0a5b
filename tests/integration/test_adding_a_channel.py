"""docs/adding-a-channel.md, followed to the letter on a copy of the source tree."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from assistance.embedded.ports import free_port
from assistance.runtime.clock import Deadline, sleep
from assistance.settings import environment_with
from assistance.testing.http_server import FakeHttpServer

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "adding-a-channel.md"
BLOCK = re.compile(r'^```(?P<language>\w+)(?: title="(?P<path>[^"]+)")?\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[tuple[str | None, str]]:
    found = BLOCK.finditer(PAGE.read_text(encoding="utf-8"))
    return [(match["path"], match["text"]) for match in found if match["language"] == language]


def commands() -> list[str]:
    return [line for _, text in blocks("sh") for line in text.splitlines()]


def apply_diff(file: Path, diff: str) -> None:
    lines = [(line[:1], line[1:]) for line in diff.splitlines()]
    before = "\n".join(text for mark, text in lines if mark != "+")
    after = "\n".join(text for mark, text in lines if mark != "-")
    content = file.read_text(encoding="utf-8")
    assert content.count(before) == 1, f"the lines around the change are not in {file.name} any more"
    file.write_text(content.replace(before, after), encoding="utf-8")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a channel's author works on, with every block of the page in its place."""
    copy = tmp_path_factory.mktemp("tree")
    for folder in ("src", "migrations"):
        shutil.copytree(ROOT / folder, copy / folder)
    shutil.copy(ROOT / "pyproject.toml", copy)
    for path, text in [*blocks("python"), *blocks("toml")]:
        if path is not None:
            (copy / path).parent.mkdir(parents=True, exist_ok=True)
            (copy / path).write_text(text, encoding="utf-8")
    for path, text in blocks("diff"):
        assert path is not None
        apply_diff(copy / path, text)
    return copy


def run(tree: Path, command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        shell=True,
        cwd=tree,
        env={**environment(tree), **variables},
        capture_output=True,
        text=True,
        timeout=100,
    )


def environment(tree: Path) -> dict[str, str]:
    settings = environment_with(
        config=tree / "assistance.toml",
        database_url="postgresql://assistance@127.0.0.1:1/assistance",
        broker_url="amqp://127.0.0.1:1/",
    )
    # The copy comes before the project that is installed, for Python and for mypy.
    paths = {
        "PYTHONPATH": f"{tree / 'src'}",
        "MYPYPATH": f"{tree / 'src'}",
        "PATH": f"{scripts()}:{os.environ['PATH']}",
    }
    return {**settings, **paths}


def scripts() -> Path:
    return Path(sys.executable).parent


def test_the_page_adds_one_file_one_line_and_one_test() -> None:
    assert [path for path, _ in blocks("python") if path is not None] == [
        "src/assistance/channels/mattermost.py",
        "tests/contract/test_mattermost.py",
    ]
    ((path, diff),) = blocks("diff")
    assert path == "src/assistance/channels/registry.py"
    assert [line[:1] for line in diff.splitlines()].count("+") == 1


@pytest.mark.parametrize("command", [line for line in commands() if not line.startswith("assistance")])
def test_each_check_that_the_page_names_passes(tree: Path, command: str) -> None:
    done = run(tree, command)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def room() -> Iterator[FakeHttpServer]:
    with FakeHttpServer() as server:
        yield server


def test_a_request_arrives_through_the_new_type(tree: Path, room: FakeHttpServer, tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    secret = {"MATTERMOST_URL": f"{room.url}hooks/abc"}
    up, check, check_channel, send = [line for line in commands() if line.startswith("assistance")]
    assert run(tree, check, **secret).stdout == "1 topics, 1 channels: no mistakes.\n"
    assert run(tree, check_channel, **secret).stdout == "support-room: fine\n"
    words = [*up.split(), "--folder", str(tmp_path / "data"), "--port", str(port)]
    started = subprocess.Popen(words, cwd=tree, env={**environment(tree), **secret}, start_new_session=True)
    try:
        deadline = Deadline.after(90)
        while (sent := run(tree, f"{send} --url {url}")).returncode != 0:
            assert started.poll() is None, "assistance up ended"
            assert not deadline.has_passed, sent.stderr
            sleep(0.2)
        while not room.visible:
            assert not deadline.has_passed, "nothing arrived"
            sleep(0.05)
        assert "The printer is on fire." in room.visible[0].json["text"]
    finally:
        started.send_signal(signal.SIGTERM)
        assert started.wait(60) == 0
