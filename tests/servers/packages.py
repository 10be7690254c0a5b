"""The distribution's packages, unpacked into a cache folder.

Nothing is installed: apt works in folders of its own, which also lets an ordinary user do it, and packages are only
unpacked, so that no system-wide server is started.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.servers.locks import file_lock
from tests.servers.missing import ServerMissing

CACHE = Path(__file__).resolve().parents[2] / ".cache"
_FETCH_SECONDS = 300

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


def unpacked(
    target: Path, *packages: str, title: str, needed: str, prepare: Callable[[Path], None] = lambda _root: None
) -> Path:
    """The folder with the packages' files and those of the packages they need, fetched unless it is there.

    `needed` is a pattern of the packages' names that are worth having; `prepare` may change the files before anybody
    sees them. Raises `ServerMissing`, in which `title` says what is missing.
    """
    try:
        with file_lock(target.with_name(target.name + ".lock")):
            if not target.exists():
                _fetch_into(target, packages, needed, prepare)
    except (OSError, subprocess.SubprocessError) as error:
        told = str(getattr(error, "stderr", None) or "").strip().splitlines()
        reason = told[-1] if told else f"{type(error).__name__}: {error}"
        raise ServerMissing(f"{title} is not installed and its packages cannot be fetched ({reason})") from error
    return target


def _fetch_into(target: Path, packages: Sequence[str], needed: str, prepare: Callable[[Path], None]) -> None:
    work = target.with_name(target.name + ".new")
    shutil.rmtree(work, ignore_errors=True)
    for folder in ("state/lists/partial", "cache/archives/partial", "packages", "root"):
        (work / folder).mkdir(parents=True)
    (work / "apt.conf").write_text(_APT_CONF.format(work))
    apt = ["apt-get", "-c", str(work / "apt.conf")]
    _run([*apt, "update"], work)
    plan = _run([*apt, "--simulate", "--no-install-recommends", "install", *packages], work)
    found = re.findall(rf"^Inst ({needed}) .*?\((\S+) ", plan, re.MULTILINE)
    _run([*apt, "download", *(f"{name}={version}" for name, version in found)], work / "packages")
    for file in sorted((work / "packages").glob("*.deb")):
        _run(["dpkg", "--extract", str(file), str(work / "root")], work)
    prepare(work / "root")
    (work / "root").rename(target)
    shutil.rmtree(work)


def _run(command: list[str], folder: Path) -> str:
    environment = {**os.environ, "HOME": str(folder), "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=True, timeout=_FETCH_SECONDS
    )
    return done.stdout
