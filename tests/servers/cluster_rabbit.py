"""Three RabbitMQ nodes on loopback that form one cluster; any of them may be killed and started again."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from assistance.embedded.ports import free_port
from tests.servers.rabbit import GUARD, Membership, RabbitServer
from tests.servers.rabbit_packages import rabbit_programs

_FORM_SECONDS = 60


class RabbitCluster:
    """`url` names every node; files are in `folder`. Raises `ServerMissing` when there are no programs."""

    def __init__(self, folder: Path, size: int = 3) -> None:
        self._folder = folder.resolve()
        self._programs = rabbit_programs()
        self._epmd_port = free_port()
        self._epmd: subprocess.Popen[bytes] | None = None
        names: list[str] = []
        membership = Membership(self._epmd_port, secrets.token_hex(16), secrets.token_urlsafe(12), names)
        self.nodes = [RabbitServer(self._folder / f"node{n}", self._programs, membership) for n in range(1, size + 1)]
        names += [node.name for node in self.nodes]

    @property
    def url(self) -> str:
        first = urlsplit(self.nodes[0].url)
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        return first._replace(netloc=f"{first.username}:{first.password}@{hosts}").geturl()

    @property
    def version(self) -> str:
        return self.nodes[0].version

    def start(self) -> None:
        """Start every node that does not run; returns when all of them know one another."""
        self._start_port_mapper()
        self.start_nodes(self.nodes)
        deadline = time.monotonic() + _FORM_SECONDS
        while len(self._running()) < len(self.nodes):
            if time.monotonic() > deadline:
                raise RuntimeError(f"the nodes did not find one another within {_FORM_SECONDS} s")
            time.sleep(0.2)

    def start_nodes(self, nodes: Sequence[RabbitServer]) -> None:
        """Start them together, because a node waits for the others that ran when it died."""
        with ThreadPoolExecutor(len(nodes)) as pool:
            list(pool.map(RabbitServer.start, nodes))

    def leader_of(self, queue: str) -> RabbitServer | None:
        """The node that leads a quorum queue; none while there is no leader, or nobody who could tell."""
        alive = [node for node in self.nodes if node.pid is not None]
        try:
            listed = json.loads(alive[0].rabbitmqctl("list_queues", "name", "leader", "--formatter=json"))
        except (IndexError, RuntimeError, ValueError, subprocess.TimeoutExpired):
            return None
        leaders = {row["name"]: row["leader"] for row in listed}
        return next((node for node in alive if node.name == leaders.get(queue)), None)

    def stop(self) -> None:
        """Kill every node, and the port mapper with the last."""
        for node in self.nodes:
            node.kill()
        if self._epmd is not None:
            assert self._epmd.stdin is not None
            assert self._epmd.stdout is not None
            self._epmd.stdin.close()
            self._epmd.wait()
            self._epmd.stdout.close()
            self._epmd = None

    def remove(self) -> None:
        """Delete the stopped nodes' files."""
        for node in self.nodes:
            node.remove()

    def _running(self) -> list[str]:
        try:
            status = json.loads(self.nodes[0].rabbitmqctl("cluster_status", "--formatter=json"))
        except (RuntimeError, ValueError):
            return []
        running: list[str] = status["running_nodes"]
        return running

    def _start_port_mapper(self) -> None:
        """One for all nodes; under the guard, because by itself it would outlive us."""
        if self._epmd is not None:
            return
        epmd = str(self._programs.erlang / "epmd")
        guard = [sys.executable, "-I", "-S", str(GUARD), epmd, "0"]
        self._epmd = subprocess.Popen(
            [*guard, epmd, "-port", str(self._epmd_port), "-address", "127.0.0.1"],
            env=self._programs.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert self._epmd.stdout is not None
        self._epmd.stdout.readline()
