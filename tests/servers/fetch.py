"""Fetches RabbitMQ ahead of the tests, outside their time limit: `python -m tests.servers.fetch`."""

import sys

from tests.servers.missing import ServerMissing
from tests.servers.rabbit_packages import rabbit_programs

if __name__ == "__main__":
    try:
        sys.stdout.write(f"RabbitMQ: {rabbit_programs().scripts.parent}\n")
    except ServerMissing as missing:
        sys.stdout.write(f"RabbitMQ: {missing}\n")
