"""The parts of the server ladder that need no server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from assistance.embedded.binaries import find_binaries
from assistance.embedded.child import unprivileged
from assistance.embedded.ports import free_port, is_free
from tests.servers import Server, ServerMissing, rabbit_packages
from tests.servers.rabbit import RabbitControl
from tests.servers.shared import database_url


def test_a_server_survives_its_way_to_another_process() -> None:
    server = Server("amqp://u:p@127.0.0.1:1/%2F", "4.1", "private", control=RabbitControl("ctl", {"HOME": "x"}))
    assert Server.from_json(json.loads(json.dumps(server.to_json()))) == server


def test_the_name_of_a_virtual_host_is_quoted_into_the_url() -> None:
    server = Server("amqp://u:p@127.0.0.1:1/%2F", "", "")
    assert server.vhost_url("a/b") == "amqp://u:p@127.0.0.1:1/a%2Fb"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u:p@h:1/a", "postgresql://u:p@h:1/b"),
        ("postgresql://u:p@h:1/a?sslmode=require", "postgresql://u:p@h:1/b?sslmode=require"),
    ],
)
def test_another_database_of_the_same_server_keeps_the_rest_of_the_url(url: str, expected: str) -> None:
    assert database_url(url, "b") == expected


def test_a_free_port_is_free_and_never_one_that_outgoing_connections_get() -> None:
    port = free_port()
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert is_free(port)
    assert port < lowest


def test_binaries_are_only_found_for_a_major_version_that_is_there() -> None:
    found = find_binaries(unprivileged())
    if found is None:
        pytest.skip("no server: PostgreSQL")
    assert find_binaries(unprivileged(), major=str(found.major)) == found
    assert find_binaries(unprivileged(), major="1") is None


def test_packages_that_cannot_be_fetched_are_a_missing_server_and_leave_no_half_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rabbit_packages, "CACHE", tmp_path)
    broken = tmp_path / "bin"
    broken.mkdir()
    apt = broken / "apt-get"
    apt.write_text("#!/bin/sh\necho 'E: no network' >&2\nexit 100\n")
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", str(broken))
    with pytest.raises(ServerMissing, match="E: no network"):
        rabbit_packages.fetch()
    assert not (tmp_path / "rabbitmq").exists()
