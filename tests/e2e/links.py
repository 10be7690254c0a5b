"""An installation whose processes reach their servers and the third parties through proxies, one per link."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from assistance.storage.migrate import migrate
from tests.e2e.installation import Installation
from tests.proxy import Bandwidth, DropAfter, Latency, LimitData, Proxy, ResetPeer, Slicer, SlowClose, Timeout, Toxic

#: Who talks to whom.
LINKS = (
    "api-postgresql",
    "relay-postgresql",
    "relay-rabbitmq",
    "consumer-postgresql",
    "consumer-rabbitmq",
    "consumer-slack",
    "consumer-smtp",
)

#: Mild enough that work goes on, hard enough to be felt. What a slow network still holds when its client gives up must
#: be gone before the channel is asked (`settle`), as everywhere.
TOXICS: dict[str, Toxic] = {
    "latency": Latency(ms=100, jitter=80),
    "bandwidth": Bandwidth(kb_per_second=20),
    "slicer": Slicer(size=40, pause_us=200),
    "limit_data": LimitData(bytes=3000),
    "reset_peer": ResetPeer(after_ms=150),
    "timeout": Timeout(ms=300),
    "black_hole": Timeout(),
    "slow_close": SlowClose(ms=300),
    "drop_after": DropAfter(rb"COMMIT|publish|postMessage|\r\n\.\r\n", forwarded=True),
}


class Linked:
    """The installation, its proxies by link, and how its API answered."""

    def __init__(self, running: Installation, proxies: dict[str, Proxy]) -> None:
        self.running = running
        self.proxies = proxies
        self.statuses: Counter[int] = Counter()
        self.slowest = 0.0

    def post_until_accepted(self, topic: str, description: str, seconds: float = 60) -> None:
        """A careful bot that notes what it is told, and how long that takes."""
        deadline = time.monotonic() + seconds
        status = 0
        while status != 202:
            assert time.monotonic() < deadline, "nobody accepted the request"
            began = time.monotonic()
            status, _ = self.running.post(topic, description, key=description.replace(" ", "-"), timeout=30)
            self.statuses[status] += 1
            self.slowest = max(self.slowest, time.monotonic() - began)
            if status != 202:
                time.sleep(0.1)


@contextmanager
def linked_installation(folder: Path, database_url: str, broker_url: str) -> Iterator[Linked]:
    """Everything started; stopped at the end."""
    migrate(database_url)
    running = Installation(folder, database_url, broker_url)
    targets = {
        "postgresql": database_url,
        "rabbitmq": broker_url,
        "slack": f"http://127.0.0.1:{running.slack_port}/api/",
        "smtp": f"smtp://127.0.0.1:{running.smtp_port}",
    }
    with ExitStack() as stack:
        proxies = {
            link: stack.enter_context(Proxy(targets[link.partition("-")[2]], seed=number))
            for number, link in enumerate(LINKS)
        }
        for link, proxy in proxies.items():
            service, _, server = link.partition("-")
            if server in ("postgresql", "rabbitmq"):
                variable = "ASSISTANCE_DATABASE_URL" if server == "postgresql" else "ASSISTANCE_BROKER_URL"
                running.environment_of.setdefault(service, {})[variable] = proxy.url
        _reroute(folder / "assistance.toml", targets, proxies)
        try:
            running.start()
            yield Linked(running, proxies)
        finally:
            running.stop()


def _reroute(configuration: Path, targets: dict[str, str], proxies: dict[str, Proxy]) -> None:
    text = configuration.read_text()
    for server in ("slack", "smtp"):
        assert targets[server] in text
        text = text.replace(targets[server], proxies[f"consumer-{server}"].url)
    configuration.write_text(text)
