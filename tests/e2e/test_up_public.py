"""`assistance up --public`: others may call, with a key, and see nothing of the inside."""

from __future__ import annotations

import json
import re
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.installation import Installation, wait_for

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc"),
    pytest.mark.timeout(240),
]


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    made = Installation(tmp_path)
    yield made
    made.kill_everything()


def own_address() -> str | None:
    """An address of this machine that is not loopback. Asking the kernel for the way out sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address = str(probe.getsockname()[0])
        return None if address.startswith("127.") else address


def status_of(url: str, key: str | None = None, body: dict[str, str] | None = None) -> int:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    data = None if body is None else json.dumps(body).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, data=data, headers=headers), timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        refused.close()
        return refused.code


def test_others_need_the_key_that_was_shown_once_and_see_nothing_of_the_inside(installation: Installation) -> None:
    installation.start("--public")
    (key,) = re.findall(r"^export ASSISTANCE_KEY=(asst_\S+)$", installation.said(), re.MULTILINE)
    body = {"topic": "sales", "description": "from a stranger"}
    for host in filter(None, ("127.0.0.1", own_address())):
        url = f"http://{host}:{installation.port}"
        assert status_of(f"{url}/livez") == 200
        assert status_of(f"{url}/assistance", body=body) == 401
        assert status_of(f"{url}/assistance", key[:-1] + "_", body) == 401
        assert status_of(f"{url}/assistance", key, body) == 202
        inside = 200 if host == "127.0.0.1" else 401
        assert [status_of(url + path) for path in ("/sandbox", "/metrics")] == [inside, inside], host
    wait_for(lambda: "from a stranger" in installation.page(), 20, "the request on the page")
    assert installation.said().count(key[14:]) == 1
    assert "Bearer $ASSISTANCE_KEY" in installation.said()
    assert installation.signal(signal.SIGINT) == 0
    installation.nothing_runs()
