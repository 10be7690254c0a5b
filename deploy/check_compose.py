"""Checks docker-compose.yml with Compose itself, then the promises that docs/operations.md makes about it.

Needs the Compose plugin of Docker, or a `docker-compose` on the PATH or beside this interpreter; no engine. Where
neither is there, it says so in one line and passes. Exit codes: 0 fine, 1 mistakes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

_OLDEST = 2  # the first version that speaks today's format
_GATEWAY, _CONSUMER = "gateway", "consumer"
_DASHBOARDS, _PROMETHEUS = "grafana", "prometheus"
_KEYS = "keys"  # sees to it that callers need one
_METRICS_KEY = "metrics-key"
_ONE_SHOTS = {"migrate", _KEYS, _METRICS_KEY}
_OBSERVE = "observe"  # the profile of those that are started only when they are asked for
_DOOR, _WAY_OUT = "door", "outside"
_WRITABLE_ROOT = {"rabbitmq"}  # its start script writes its configuration


def find_compose() -> list[str] | None:
    """The words that start Compose here, or none."""
    beside = Path(sys.executable).with_name("docker-compose")
    for words in (["docker", "compose"], ["docker-compose"], [str(beside)]):
        program = shutil.which(words[0])
        if program is None:
            continue
        command = [program, *words[1:]]
        answer = subprocess.run([*command, "version", "--short"], capture_output=True, text=True, check=False)  # noqa: S603 (fixed words)
        major = answer.stdout.strip().removeprefix("v").partition(".")[0]
        if answer.returncode == 0 and major.isdigit() and int(major) >= _OLDEST:
            return command
    return None


def parse(compose: list[str], *more: Path) -> dict[str, Any]:
    """The file as Compose understands it with every profile, with what `more` files add.

    Nothing comes from the caller's environment. Raises `ValueError` with what Compose says about a file that it
    refuses.
    """
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    command = [*compose, "--project-directory", str(ROOT), "-f", str(ROOT / "docker-compose.yml")]
    command += [word for file in more for word in ("-f", str(file))]
    command += ["--profile", _OBSERVE, "config", "--format", "json"]
    answer = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)  # noqa: S603 (fixed words)
    if answer.returncode != 0 or not answer.stdout.strip():  # packages of Compose exist that lose its exit code
        raise ValueError(answer.stderr.strip())
    document: dict[str, Any] = json.loads(answer.stdout)
    return document


def mistakes(document: dict[str, Any]) -> Iterator[str]:
    """One sentence for each promise that the file does not keep."""
    for name, service in document["services"].items():
        yield from (f"{name} {mistake}." for mistake in _mistakes_of(name, service, document["networks"]))
    services: dict[str, Any] = document["services"]
    published = {
        name: [port.get("host_ip") for port in services[name].get("ports", [])] for name in (_GATEWAY, _DASHBOARDS)
    }
    shared = set(services["api"]["networks"]) & set(services[_GATEWAY]["networks"])
    readers = [name for name, service in services.items() if "SLACK_BOT_TOKEN" in service.get("environment", {})]
    beside = {
        name for name, service in services.items() if set(service["networks"]) & set(services[_DASHBOARDS]["networks"])
    }
    asked_for = {name for name, service in services.items() if service.get("profiles") == [_OBSERVE]}
    kept = {
        "The gateway publishes something else than one port on loopback.": published[_GATEWAY] == ["127.0.0.1"],
        "The dashboards publish something else than one port on loopback.": published[_DASHBOARDS] == ["127.0.0.1"],
        "The dashboards can reach more than Prometheus.": beside == {_DASHBOARDS, _PROMETHEUS},
        "The dashboards start without being asked for.": asked_for == {_DASHBOARDS, _PROMETHEUS, _METRICS_KEY},
        "The gateway and the API share another network than the door.": shared == {_DOOR},
        "The consumer cannot reach its channels.": _WAY_OUT in services[_CONSUMER]["networks"],
        "SLACK_BOT_TOKEN is for the consumer alone.": readers == [_CONSUMER],
        "The API starts before callers need a key.": services["api"]["depends_on"].get(_KEYS, {}).get("condition")
        == "service_completed_successfully",
    }
    yield from (sentence for sentence, holds in kept.items() if not holds)


def _mistakes_of(name: str, service: dict[str, Any], networks: dict[str, Any]) -> Iterator[str]:
    is_confined = all((networks[network] or {}).get("internal") for network in service["networks"])
    at_the_door = _DOOR in service["networks"]
    kept = {
        "keeps capabilities that it does not need": service.get("cap_drop") == ["ALL"],
        "may gain privileges": "no-new-privileges:true" in service.get("security_opt", []),
        "has a writable root": service.get("read_only") or name in _WRITABLE_ROOT,
        "has no health check": service.get("healthcheck") or name in _ONE_SHOTS,
        "is not started again when it dies": service.get("restart") == "unless-stopped" or name in _ONE_SHOTS,
        "publishes a port": not service.get("ports") or name in (_GATEWAY, _DASHBOARDS),
        "can reach the world": is_confined or name in (_GATEWAY, _CONSUMER, _DASHBOARDS),
        "stands at the door of the API": not at_the_door or name in (_GATEWAY, "api"),
    }
    yield from (what for what, holds in kept.items() if not holds)


def main() -> int:
    """Check the file; returns the exit code."""
    compose = find_compose()
    if compose is None:
        sys.stdout.write("docker-compose.yml: NOT CHECKED, there is no Docker Compose here.\n")
        return 0
    try:
        found = list(mistakes(parse(compose)))
    except ValueError as error:
        found = [str(error)]
    for mistake in found:
        sys.stdout.write(f"docker-compose.yml: {mistake}\n")
    if not found:
        sys.stdout.write("docker-compose.yml: no mistakes.\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
