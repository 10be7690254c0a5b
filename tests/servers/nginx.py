"""nginx with the configuration that we ship, for a gateway that a test may attack."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.servers.missing import ServerMissing
from tests.servers.packages import CACHE, unpacked

_SHIPPED = Path(__file__).parents[2] / "deploy" / "nginx"
#: What a test cannot have as it is: the ports and folders of a container, and names that only its network knows.
_ELSEWHERE = (
    (r"/tmp/", "{folder}/"),
    (r"/etc/nginx/assistance-tls", "{folder}/assistance-tls"),
    (r"listen 8080;", "listen 127.0.0.1:{port};"),
    (r"http://api:8080", "http://127.0.0.1:{api_port}"),
    (r"client_header_timeout 10s;", "client_header_timeout 2s;"),  # nobody wants to wait
)
_TLS_ELSEWHERE = (
    (r"/etc/nginx/tls/", "{folder}/tls/"),
    (r"listen 8443 ssl;", "listen 127.0.0.1:{tls_port} ssl;"),
)


def nginx_program() -> Path:
    """The installed one, or the distribution's. Raises `ServerMissing`."""
    installed = shutil.which("nginx")
    if installed is not None:
        return Path(installed)
    root = unpacked(CACHE / "nginx", "nginx", title="nginx", needed="nginx(?:-common)?")
    found = root / "usr/sbin/nginx"
    if not found.exists():
        raise ServerMissing(f"{root} holds no nginx: remove that folder")
    return found


def start_gateway(
    program: Path, folder: Path, *, port: int, api_port: int, tls_port: int | None = None
) -> subprocess.Popen[bytes]:
    """Start the gateway in front of an API; its log is in the folder.

    With a `tls_port` it also takes encrypted calls there, with `fullchain.pem` and `privkey.pem` of the folder `tls`.
    """
    places = {"folder": folder, "port": port, "api_port": api_port, "tls_port": tls_port}
    _write(folder / "nginx.conf", "assistance.conf", _ELSEWHERE, places)
    if tls_port is not None:
        _write(folder / "assistance-tls.conf", "tls.conf", _TLS_ELSEWHERE, places)
    with (folder / "nginx.log").open("ab") as log:
        return subprocess.Popen(
            [program, "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def _write(file: Path, shipped: str, elsewhere: Sequence[tuple[str, str]], places: Mapping[str, object]) -> None:
    text = (_SHIPPED / shipped).read_text(encoding="utf-8")
    for pattern, replacement in elsewhere:
        text, changed = re.subn(pattern, replacement.format(**places), text)
        assert changed, f"the shipped {shipped} has no {pattern} any more"
    file.write_text(text, encoding="utf-8")
