"""Real servers for tests: a ladder of ways to get them, private ones that may be killed, and what a run shares."""

from tests.servers.ladder import Server
from tests.servers.missing import ServerMissing
from tests.servers.postgres import ControlledPostgres
from tests.servers.rabbit import RabbitServer
from tests.servers.shared import SharedServers

__all__ = ["ControlledPostgres", "RabbitServer", "Server", "ServerMissing", "SharedServers"]
