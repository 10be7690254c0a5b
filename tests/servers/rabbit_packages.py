"""RabbitMQ's programs: the installed ones, or the distribution's packages unpacked into a cache folder.

Nothing is installed: apt works in folders of its own, which also lets an ordinary user do it, and packages are only
unpacked, so that no system-wide broker is started.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.servers.locks import file_lock
from tests.servers.missing import ServerMissing

CACHE = Path(__file__).resolve().parents[2] / ".cache"
_FETCH_SECONDS = 300
_NEEDED = re.compile(r"^Inst ((?:rabbitmq-server|erlang-|lib)\S*) .*?\((\S+) ", re.MULTILINE)
_ROOTDIR = re.compile(r"^(\s*)ROOTDIR=.*$", re.MULTILINE)

#: apt drops to its own user and locks dpkg's database, neither of which a private, read-only look needs; the hooks are
#: the system's, for the system's folders.
_APT_CONF = """\
Dir::State "{0}/state";
Dir::State::lists "{0}/state/lists";
Dir::Cache "{0}/cache";
APT::Sandbox::User "root";
Debug::NoLocking "1";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear Acquire::IndexTargets::deb::DEP-11;
"""


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
    target = CACHE / "rabbitmq"
    try:
        with file_lock(CACHE / "rabbitmq.lock"):
            if not target.exists():
                _fetch_into(target)
    except (OSError, subprocess.SubprocessError) as error:
        told = str(getattr(error, "stderr", None) or "").strip().splitlines()
        reason = told[-1] if told else f"{type(error).__name__}: {error}"
        raise ServerMissing(f"RabbitMQ is not installed and its packages cannot be fetched ({reason})") from error
    found = _programs_below(target, "fetched packages")
    if found is None:
        raise ServerMissing(f"{target} holds no usable RabbitMQ: remove that folder")
    return found


def _programs_below(root: Path, how: str) -> RabbitPrograms | None:
    scripts = sorted((root / "usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin"))
    erlang = root / "usr/lib/erlang/bin"
    if not scripts or not (erlang / "erl").exists():
        return None
    unpacked = root != Path("/")
    libraries = next((root / "usr/lib").glob("*-linux-*"), None) if unpacked else None
    return RabbitPrograms(scripts[-1], erlang, libraries, how)


def _fetch_into(target: Path) -> None:
    work = target.with_name(target.name + ".new")
    shutil.rmtree(work, ignore_errors=True)
    for folder in ("state/lists/partial", "cache/archives/partial", "packages", "root"):
        (work / folder).mkdir(parents=True)
    (work / "apt.conf").write_text(_APT_CONF.format(work))
    apt = ["apt-get", "-c", str(work / "apt.conf")]
    _run([*apt, "update"], work)
    plan = _run([*apt, "--simulate", "--no-install-recommends", "install", "rabbitmq-server"], work)
    wanted = [f"{name}={version}" for name, version in _NEEDED.findall(plan)]
    _run([*apt, "download", *wanted], work / "packages")
    for package in sorted((work / "packages").glob("*.deb")):
        _run(["dpkg", "--extract", str(package), str(work / "root")], work)
    _make_relocatable(work / "root/usr/lib/erlang")
    (work / "root").rename(target)
    shutil.rmtree(work)


def _make_relocatable(erlang: Path) -> None:
    """Let the start scripts find Erlang where it was unpacked, also after the project's folder has moved."""
    for script in (erlang / "bin/erl", *erlang.glob("erts-*/bin/erl")):
        up = "/.." * len(script.parent.relative_to(erlang).parts)
        root = f'"$(cd "$(dirname "$(readlink -f "$0")")"{up} && pwd)"'
        script.write_text(_ROOTDIR.sub(rf"\1ROOTDIR={root}", script.read_text()))


def _run(command: list[str], folder: Path) -> str:
    environment = {**os.environ, "HOME": str(folder), "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=True, timeout=_FETCH_SECONDS
    )
    return done.stdout
