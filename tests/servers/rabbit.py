"""A private RabbitMQ on loopback ports that tests may stop, kill and start again."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from assistance.embedded.ports import free_port
from tests.servers.rabbit_packages import RabbitPrograms, rabbit_programs

USER = "assistance"

GUARD = Path(__file__).with_name("rabbit_guard.py")
_START_SECONDS = 60
_STOP_SECONDS = 30
_START_TRIES = 3
_VERSION_IN_GREETING = re.compile(rb"\x07versionS\x00\x00\x00.([0-9.]+)", re.DOTALL)
_CONFIGURATION = """\
listeners.tcp.1 = 127.0.0.1:{port}
default_user = {user}
default_pass = {password}
loopback_users = none
log.console = true
log.file = false
disk_free_limit.absolute = {disk}
vm_memory_high_watermark.absolute = {memory}
"""
_CLUSTER_CONFIGURATION = """\
cluster_formation.peer_discovery_backend = classic_config
cluster_partition_handling = pause_minority
"""
#: Below and above these a server raises an alarm and takes no more messages.
DISK_LIMIT = "50MB"
MEMORY_LIMIT = "512MB"


@dataclass(frozen=True, slots=True)
class RabbitControl:
    """The command line tool of one server; plain data, so that other processes can use it too."""

    program: str
    environment: Mapping[str, str]

    def __call__(self, *arguments: str) -> str:
        """Run `rabbitmqctl`; what it printed. Raises `RuntimeError` with its words when it fails."""
        done = subprocess.run(
            [self.program, *arguments],
            env=dict(self.environment),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        if done.returncode != 0:
            raise RuntimeError(f"rabbitmqctl {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout


@dataclass(frozen=True, slots=True)
class Membership:
    """What the nodes of a cluster share: a port mapper (not theirs to stop), secrets, and everybody's names."""

    epmd_port: int
    cookie: str
    password: str
    names: list[str]


class RabbitServer:
    """One RabbitMQ node with all its files in `folder`; ports and data survive `stop`, `kill` and `start`.

    `more` are further lines of its configuration.
    """

    def __init__(
        self,
        folder: Path,
        programs: RabbitPrograms | None = None,
        membership: Membership | None = None,
        more: str = "",
    ) -> None:
        self._folder = folder.resolve()
        self._programs = programs or rabbit_programs()
        self._membership = membership
        self._more = more
        self._password = membership.password if membership else secrets.token_urlsafe(12)
        self._guard: subprocess.Popen[bytes] | None = None
        self._group = 0
        self._pick_ports()
        self.version = ""

    @property
    def url(self) -> str:
        """The default virtual host, with user and password."""
        return self.vhost_url("/")

    def vhost_url(self, name: str) -> str:
        return f"amqp://{USER}:{self._password}@127.0.0.1:{self.port}/{quote(name, safe='')}"

    @property
    def name(self) -> str:
        """What Erlang calls the node."""
        return f"assistance{self.port}@localhost"

    @property
    def how(self) -> str:
        return self._programs.how

    @property
    def pid(self) -> int | None:
        """The process group of the server, or none while it is not running."""
        return self._group if self._guard is not None and self._guard.poll() is None else None

    @property
    def ports(self) -> tuple[int, int, int]:
        """AMQP, the node's own protocol, and the port mapper; all on loopback."""
        return self.port, self._node_port, self._epmd_port

    @property
    def log_file(self) -> Path:
        return self._folder / "rabbit.log"

    @property
    def control(self) -> RabbitControl:
        return RabbitControl(str(self._programs.scripts / "rabbitmqctl"), self._environment())

    def rabbitmqctl(self, *arguments: str) -> str:
        """Run `rabbitmqctl` against the running server (0.3 s); what it printed."""
        return self.control("--quiet", *arguments)

    def new_vhost(self, name: str) -> str:
        """Create a virtual host; its URL."""
        make_vhosts(self.control, [name])
        return self.vhost_url(name)

    def start(self) -> None:
        """Start the server, creating its data at the first start; returns when it greets (1.4 to 2.7 s)."""
        if self.pid is not None:
            return
        for tries_left in reversed(range(_START_TRIES)):
            self._launch()
            if self._becomes_ready():
                return
            self.kill()
            if not tries_left:
                log = self.log_file.read_text(errors="replace").splitlines()
                raise RuntimeError("RabbitMQ did not start: " + "\n".join(log[-20:]))
            if not (self._membership or self.version):  # perhaps a port was taken meanwhile; nobody was told them yet
                shutil.rmtree(self._folder / "db", ignore_errors=True)  # it belongs to the node of that port
                self._pick_ports()

    def stop(self) -> None:
        """Stop the server in good order (SIGTERM, 1.1 s)."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """`kill -9` the server with everything that it started."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def remove(self) -> None:
        """Delete the stopped server's files."""
        shutil.rmtree(self._folder)

    def _end(self, number: signal.Signals) -> None:
        guard, self._guard = self._guard, None
        if guard is None:
            return
        if guard.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._group, number)
        try:
            guard.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._group, signal.SIGKILL)
            guard.wait()
        finally:
            for pipe in (guard.stdin, guard.stdout):
                if pipe is not None:
                    pipe.close()

    def _pick_ports(self) -> None:
        self.port, self._node_port, self._epmd_port = (free_port() for _ in range(3))
        if self._membership:
            self._epmd_port = self._membership.epmd_port

    def _environment(self) -> dict[str, str]:
        own = {
            "HOME": "",
            "RABBITMQ_CONFIG_FILE": "rabbitmq.conf",
            "RABBITMQ_MNESIA_BASE": "db",
            "RABBITMQ_LOG_BASE": "log",
            "RABBITMQ_ENABLED_PLUGINS_FILE": "enabled_plugins",
            "RABBITMQ_PID_FILE": "pid",
        }
        return {
            **self._programs.environment(),
            **{name: str(self._folder / place) for name, place in own.items()},
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_DIST_PORT": str(self._node_port),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_CRASH_DUMP_SECONDS": "0",
            # Schedulers that spin while they wait would take the processor from the tests.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} "
            "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",
        }

    def _launch(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        configuration = _CONFIGURATION.format(
            port=self.port, user=USER, password=self._password, disk=DISK_LIMIT, memory=MEMORY_LIMIT
        )
        configuration += self._more
        if self._membership:
            configuration += _CLUSTER_CONFIGURATION + "".join(
                f"cluster_formation.classic_config.nodes.{number} = {name}\n"
                for number, name in enumerate(self._membership.names, 1)
            )
            self._share_cookie(self._membership.cookie)
        (self._folder / "rabbitmq.conf").write_text(configuration)
        (self._folder / "enabled_plugins").write_text("[].\n")
        own_epmd = "0" if self._membership else str(self._epmd_port)
        guard = [sys.executable, "-I", "-S", str(GUARD), str(self._programs.erlang / "epmd"), own_epmd]
        with self.log_file.open("ab") as log:
            self._guard = subprocess.Popen(
                [*guard, str(self._programs.scripts / "rabbitmq-server")],
                cwd=self._folder,
                env=self._environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert self._guard.stdout is not None
        self._group = int(self._guard.stdout.readline())

    def _share_cookie(self, cookie: str) -> None:
        file = self._folder / ".erlang.cookie"
        if not file.exists():
            file.touch(mode=0o600)
            file.write_text(cookie)

    def _becomes_ready(self) -> bool:
        deadline = time.monotonic() + _START_SECONDS
        while self.pid is not None and time.monotonic() < deadline:
            found = greeting_version(self.port)
            if found:
                self.version = found
                return True
            time.sleep(0.05)
        return False


def greeting_version(port: int) -> str | None:
    """The version that a RabbitMQ on this loopback port tells in its greeting; none while it does not greet."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(b"AMQP\x00\x00\x09\x01")
        received = b""
        while chunk := connection.recv(4096):
            received += chunk
            if found := _VERSION_IN_GREETING.search(received):
                return found[1].decode()
    return None


def make_vhosts(control: RabbitControl, new: list[str], *, drop: list[str] | None = None) -> None:
    """Create and drop virtual hosts in one call, because each call starts an Erlang machine."""
    terms = ['[rabbit_vhost:delete(V, <<"tests">>) || V <- [' + _binaries(drop or []) + "]]"]
    terms.append(
        '[begin rabbit_vhost:add(V, <<"tests">>), rabbit_auth_backend_internal:set_permissions('
        f'<<"{USER}">>, V, <<".*">>, <<".*">>, <<".*">>, <<"tests">>) end || V <- [' + _binaries(new) + "]]"
    )
    control("--quiet", "eval", ", ".join(terms) + ".")


def _binaries(names: list[str]) -> str:
    return ", ".join(f'<<"{name}">>' for name in names)
