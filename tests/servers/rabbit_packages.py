"""RabbitMQ's programs: the installed ones, or the distribution's packages unpacked into a cache folder."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from tests.servers.missing import ServerMissing
from tests.servers.packages import CACHE, unpacked

_ROOTDIR = re.compile(r"^(\s*)ROOTDIR=.*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class RabbitPrograms:
    """Where the scripts are (`sbin` of the release), where Erlang's are, and where unpacked libraries are, if any."""

    scripts: Path
    erlang: Path
    libraries: Path | None
    how: str

    def environment(self) -> dict[str, str]:
        environment = {"PATH": f"{self.erlang}:{os.environ.get('PATH', os.defpath)}", "LC_ALL": "C.UTF-8"}
        if self.libraries is not None:
            environment["LD_LIBRARY_PATH"] = str(self.libraries)
        return environment


def rabbit_programs() -> RabbitPrograms:
    """Raises `ServerMissing`."""
    return _programs_below(Path("/"), "installed") or fetch()


def fetch() -> RabbitPrograms:
    """Unpack the packages into the cache folder, unless they are there. Raises `ServerMissing`."""
    target = unpacked(
        CACHE / "rabbitmq",
        "rabbitmq-server",
        title="RabbitMQ",
        needed=r"(?:rabbitmq-server|erlang-|lib)\S*",
        prepare=lambda root: _make_relocatable(root / "usr/lib/erlang"),
    )
    found = _programs_below(target, "fetched packages")
    if found is None:
        raise ServerMissing(f"{target} holds no usable RabbitMQ: remove that folder")
    return found


def _programs_below(root: Path, how: str) -> RabbitPrograms | None:
    scripts = sorted((root / "usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin"))
    erlang = root / "usr/lib/erlang/bin"
    if not scripts or not (erlang / "erl").exists():
        return None
    private = root != Path("/")
    libraries = next((root / "usr/lib").glob("*-linux-*"), None) if private else None
    return RabbitPrograms(scripts[-1], erlang, libraries, how)


def _make_relocatable(erlang: Path) -> None:
    """Let the start scripts find Erlang where it was unpacked, also after the project's folder has moved."""
    for script in (erlang / "bin/erl", *erlang.glob("erts-*/bin/erl")):
        up = "/.." * len(script.parent.relative_to(erlang).parts)
        root = f'"$(cd "$(dirname "$(readlink -f "$0")")"{up} && pwd)"'
        script.write_text(_ROOTDIR.sub(rf"\1ROOTDIR={root}", script.read_text()))
