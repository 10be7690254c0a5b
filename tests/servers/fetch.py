"""Fetches what the tests need from the distribution, outside their time limit: `python -m tests.servers.fetch`."""

import sys
from collections.abc import Callable
from pathlib import Path

from tests.servers.chromium import chromium
from tests.servers.encrypted import postgres_with_tls
from tests.servers.faults import faketime_library
from tests.servers.missing import ServerMissing
from tests.servers.nginx import nginx_program
from tests.servers.promtool import promtool_program
from tests.servers.rabbit_packages import rabbit_programs


def _rabbit() -> Path:
    return rabbit_programs().scripts.parent


def _postgres_with_tls() -> Path:
    return postgres_with_tls().folder


def _chromium() -> Path:
    return chromium().program


if __name__ == "__main__":
    wanted: dict[str, Callable[[], Path]] = {
        "RabbitMQ": _rabbit,
        "promtool": promtool_program,
        "libfaketime": faketime_library,
        "nginx": nginx_program,
        "PostgreSQL with TLS": _postgres_with_tls,
        "Chromium": _chromium,
    }
    for title, find in wanted.items():
        try:
            sys.stdout.write(f"{title}: {find()}\n")
        except ServerMissing as missing:
            sys.stdout.write(f"{title}: {missing}\n")
