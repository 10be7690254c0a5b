"""A whole installation with servers of its own: what the campaign attacks.

Two of each service run. The first of each talks to the servers and to the third parties directly, the second by way
of proxies, some of them with a wall clock that can be set: networks and clocks fail for some and not for others.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import time
import urllib.error
import urllib.request
from base64 import b64encode
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from assistance.embedded.ports import free_port
from assistance.settings import environment_with
from assistance.storage.migrate import migrate
from tests.chaos.members import ROOT, Member, Supervisor
from tests.nursery import Nursery, sharing_metrics
from tests.proxy import Proxy
from tests.servers import ControlledPostgres, RabbitServer, ServerMissing
from tests.servers.faults import SmallDisk, SteppedClock

LEASE_SECONDS = 4.0
CHECK_AFTER_SECONDS = 12.0
INTERVAL_SECONDS = 1.0
CHANNEL_SECONDS = 2.0
LONGEST_DELAY_SECONDS = 2.0
RECONNECT_SECONDS = 5.0
#: T: how long after the last fault everything must be delivered or dead. A straggler is looked at again after twice
#: `CHECK_AFTER_SECONDS` once it was re-armed in vain; a process needs its time to start.
T_SECONDS = RECONNECT_SECONDS + 2 * CHECK_AFTER_SECONDS + LEASE_SECONDS + INTERVAL_SECONDS + 1.2 * LONGEST_DELAY_SECONDS
T_SECONDS += 11.6  # starts of processes, and looks at what is unknown: about 48 s in all

#: Whose clock is stepped: the library that does it slows a process down, most of all one with many threads.
_STEPPED = ("conciliation-2",)
SERVICES = ("api", "relay", "consumer", "conciliation")
CONVERSATIONS = {"sales-team": "C0SALES", "support-team": "C0SUPPORT", "billing-team": "C0BILLING"}
#: Which channels a topic goes to; the topics of `clients.TOPICS`.
CHANNELS_OF = {
    "sales": ("sales-team",),
    "support": ("support-team",),
    "billing": ("billing-team",),
    "pricing": ("pricing-inbox",),
    "hook": ("hook",),
    "both": ("sales-team", "pricing-inbox"),
}

_SLACK = """
[channels.{name}]
type = "slack"
token = "env:SLACK_BOT_TOKEN"
channel = "{conversation}"
api_url = "http://127.0.0.1:{slack}/api/"
timeout = "{timeout}s"
settle = "200ms"
pace = "10000/s"
probe_after = "1s"
retry = "quick"
"""
_OTHERS = """
[channels.pricing-inbox]
type = "email"
url = "env:SMTP_URL"
from = "Assistance <assistance@example.com>"
to = ["pricing@example.com"]
timeout = "{timeout}s"
settle = "200ms"
probe_after = "1s"
retry = "quick"

[channels.hook]
type = "webhook"
url = "http://127.0.0.1:{webhook}/"
secret = "env:HOOK_SECRET"
timeout = "{timeout}s"
settle = "200ms"
probe_after = "1s"
retry = "quick"

[retry.quick]
delays = ["200ms", "500ms", "1s", "{longest}s"]
give_up_after = "6h"
"""


class World:
    """Servers, third parties and processes; `start` brings all up, `stop` ends all."""

    def __init__(self, folder: Path, *, disk_mebibytes: int) -> None:
        self.folder = folder
        self.left_out: dict[str, str] = {}  #: faults that this machine does not allow, and why
        self.disk = self._small_disk(disk_mebibytes)
        self.clock = self._stepped_clock()
        place = self.disk.folder if self.disk else folder / "postgres"
        settings = {"max_connections": "300", "min_wal_size": "32MB", "max_wal_size": "96MB"}
        self.postgres = ControlledPostgres(place, settings=settings)
        self.rabbit = RabbitServer(folder / "rabbit")
        self.secrets = {
            "SLACK_BOT_TOKEN": "xoxb-canary-" + secrets.token_hex(12),
            "SMTP_USER": "robot",
            "SMTP_PASSWORD": "canary" + secrets.token_hex(12),
            "HOOK_SECRET": "whsec_" + b64encode(b"canary" + secrets.token_bytes(24)).decode(),
        }
        self.ports = {name: free_port() for name in ("control", "slack", "smtp", "webhook")}
        self.proxies: dict[str, Proxy] = {}
        self.members: dict[str, Member] = {}
        self.api_ports: list[int] = []
        self.metrics_ports: dict[str, int] = {}
        self._nurseries: dict[str, Nursery] = {}
        self._supervisor: Supervisor | None = None

    def start(self) -> None:
        """Returns when both APIs are ready and the queues are there."""
        log = self.folder / "nursery.log"
        (self.folder / "metrics").mkdir()
        self._nurseries = {
            "api": Nursery(sharing_metrics(self.folder / "metrics"), log),
            "stepped": Nursery(self.clock.environment if self.clock else {}, log),
            "others": Nursery({}, log),
        }
        self.postgres.start()
        self.rabbit.start()
        migrate(self.postgres.url)
        for name, url in self._targets().items():
            self.proxies[name] = Proxy(url)
        self._add(
            "sinks-1", ["-m", "tests.chaos.sinks", str(self.folder), *map(str, self.ports.values())], self.secrets
        )
        for service in SERVICES:
            for number in (1, 2):
                self._add_service(service, number)
        for member in self.members.values():
            member.start()
        self._supervisor = Supervisor(list(self.members.values()))
        self.wait_until_ready()

    def stop(self) -> None:
        if self._supervisor is not None:
            self._supervisor.close()
        for member in self.members.values():
            member.end()
        for nursery in self._nurseries.values():
            nursery.close()
        for proxy in self.proxies.values():
            proxy.__exit__(None, None, None)
        self.rabbit.kill()
        if self.disk is not None:
            self.disk.free()
        self.postgres.kill()

    def remove_disk(self) -> None:
        """Give the memory of PostgreSQL's disk back, with everything on it."""
        if self.disk is not None:
            self.disk.close()

    def canaries(self) -> dict[str, str]:
        """What must never be written anywhere, with a name for each."""
        urls = {"database password": self.postgres.url, "broker password": self.rabbit.url}
        found = {name: urlsplit(url).password or "" for name, url in urls.items()}
        return found | {name: value for name, value in self.secrets.items() if name != "SMTP_USER"}

    def wait_until_ready(self, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not all(self.get(port, "/readyz")[0] == 200 for port in self.api_ports):
            assert time.monotonic() < deadline, f"the APIs were not ready within {seconds:g} s"
            time.sleep(0.1)

    def get(self, port: int, path: str) -> tuple[int, bytes]:
        """The status (0 when there is none) and the body."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()
        except (OSError, ValueError):
            return 0, b""

    def tell_sinks(self, **modes: str) -> dict[str, int]:
        """Set the doors' modes; how many calls met each door's mode until now. Empty when the sinks do not answer."""
        call = urllib.request.Request(f"http://127.0.0.1:{self.ports['control']}/", json.dumps(modes).encode())
        with contextlib.suppress(OSError), urllib.request.urlopen(call, timeout=10) as answer:
            struck: dict[str, int] = json.loads(answer.read())["struck"]
            return struck
        return {}

    def collect(self, folder: Path) -> None:
        """What the processes say of themselves, as artefacts: metrics and health."""
        folder.mkdir(parents=True, exist_ok=True)
        for number, port in enumerate(self.api_ports, 1):
            for path in ("metrics", "health", "readyz"):
                (folder / f"api-{number}.{path}").write_bytes(self.get(port, f"/{path}")[1])
        for name, port in self.metrics_ports.items():
            (folder / f"{name}.metrics").write_bytes(self.get(port, "/metrics")[1])

    def _small_disk(self, mebibytes: int) -> SmallDisk | None:
        try:
            return SmallDisk(self.folder / "disk", mebibytes)
        except ServerMissing as missing:
            self.left_out["disk of postgres full"] = str(missing)
            return None

    def _stepped_clock(self) -> SteppedClock | None:
        try:
            return SteppedClock(self.folder / "clock")
        except ServerMissing as missing:
            self.left_out["clock step"] = str(missing)
            return None

    def _targets(self) -> dict[str, str]:
        web = {name: f"http://127.0.0.1:{self.ports[name]}" for name in ("slack", "smtp", "webhook")}
        databases = {f"{service}-postgres": self.postgres.url for service in SERVICES}
        brokers = {f"{service}-rabbit": self.rabbit.url for service in SERVICES}
        return web | databases | brokers

    def _add(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        log = self.folder / f"{name}.log"
        whole = environment_with() | {"COVERAGE_PROCESS_START": "", "PYTHONPATH": str(ROOT)} | environment
        kind = "api" if command[-1] == "api" else "stepped" if name in _STEPPED else "others"
        nursery = self._nurseries[kind]
        self.members[name] = Member(nursery, name, command, whole, log)

    def _add_service(self, service: str, number: int) -> None:
        direct = number == 1
        ports = self.ports if direct else self.ports | {n: self.proxies[n].port for n in ("slack", "smtp", "webhook")}
        own_port = free_port()
        (self.api_ports.append if service == "api" else self._keep_metrics_port(f"{service}-{number}"))(own_port)
        smtp = f"smtp://{self.secrets['SMTP_USER']}:{self.secrets['SMTP_PASSWORD']}@127.0.0.1:{ports['smtp']}"
        environment = environment_with(
            database_url=self.postgres.url if direct else self.proxies[f"{service}-postgres"].url,
            broker_url=self.rabbit.url if direct else self.proxies[f"{service}-rabbit"].url,
            config=self._configuration(number, ports),
            http_port=own_port if service == "api" else None,
            metrics_port=None if service == "api" else own_port,
            http_workers=1,
            http_threads=32,
            workers_per_channel=4,
            lease_seconds=LEASE_SECONDS,
            check_after_seconds=CHECK_AFTER_SECONDS,
            conciliation_interval_seconds=INTERVAL_SECONDS,
        )
        command = ["-m", "assistance", "api"] if service == "api" else [str(ROOT / "workers" / f"{service}.py")]
        self._add(f"{service}-{number}", command, environment | self.secrets | {"SMTP_URL": smtp})

    def _keep_metrics_port(self, name: str) -> Any:
        return lambda port: self.metrics_ports.__setitem__(name, port)

    def _configuration(self, number: int, ports: dict[str, int]) -> Path:
        times = {"timeout": f"{CHANNEL_SECONDS:g}", "longest": f"{LONGEST_DELAY_SECONDS:g}"}
        parts = [
            _SLACK.format(name=name, conversation=conversation, **ports, **times)
            for name, conversation in CONVERSATIONS.items()
        ]
        parts.append(_OTHERS.format(**ports, **times))
        parts.append("[topics]\n" + "\n".join(f"{topic} = {json.dumps(names)}" for topic, names in CHANNELS_OF.items()))
        path = self.folder / f"assistance-{number}.toml"
        path.write_text("\n".join(parts))
        return path
