"""Prometheus' own checker of rules: the installed one, or the distribution's."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.servers.missing import ServerMissing
from tests.servers.packages import CACHE, unpacked


def promtool_program() -> Path:
    """Raises `ServerMissing`."""
    installed = shutil.which("promtool")
    if installed is not None:
        return Path(installed)
    root = unpacked(CACHE / "prometheus", "prometheus", title="promtool", needed="prometheus", prepare=_thin_out)
    found = root / "usr/bin/promtool"
    if not found.exists():
        raise ServerMissing(f"{root} holds no promtool: remove that folder")
    return found


def _thin_out(root: Path) -> None:
    (root / "usr/bin/prometheus").unlink()  # the server itself, as large again
