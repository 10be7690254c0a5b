"""Chromium for tests of the console: the installed one, or the distribution's with its libraries and fonts."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.servers.missing import ServerMissing
from tests.servers.packages import CACHE, unpacked

#: It draws on no screen, and so needs a fifth less than the whole browser.
_PACKAGE = "chromium-headless-shell"
_FONTS = ("fonts-roboto-unhinted", "fonts-dejavu-core")
#: Not the C library: a program cannot take that from a folder while its loader is the system's.
_NEEDED = r"(?:chromium|fonts-|lib(?!c6|c-bin|c-l10n))\S*"
_INSTALLED = ("chromium", "chromium-browser", "chromium-headless-shell", "google-chrome")
_FONTS_CONF = """\
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig>
  <dir>{root}/usr/share/fonts</dir>
  <dir>/usr/share/fonts</dir>
  <cachedir prefix="xdg">fontconfig</cachedir>
  <match><edit name="family" mode="append_last"><string>Roboto</string></edit></match>
  <alias><family>sans-serif</family><prefer><family>Roboto</family></prefer></alias>
  <alias><family>monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias>
</fontconfig>
"""
#: It looks at pages of this machine only, also as root, also where /dev/shm is small.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--disable-sync",
)


@dataclass(frozen=True, slots=True)
class Chromium:
    """The program, and where its libraries and fonts are if they were unpacked."""

    program: Path
    root: Path | None

    def environment(self) -> dict[str, str]:
        """Of the process, beside what everybody's holds; a fetched one also gets its libraries and fonts."""
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "TZ": "UTC"}
        if self.root is not None:
            environment["LD_LIBRARY_PATH"] = ":".join(map(str, _libraries(self.root)))
            environment["FONTCONFIG_FILE"] = str(self.root / "fonts.conf")
        return environment


def chromium() -> Chromium:
    """Raises `ServerMissing`."""
    for name in _INSTALLED:
        installed = shutil.which(name)
        if installed is not None:
            return Chromium(Path(installed), None)
    root = unpacked(CACHE / "chromium", _PACKAGE, *_FONTS, title="Chromium", needed=_NEEDED)
    program = root / "usr/lib/chromium" / _PACKAGE
    if not program.exists():
        raise ServerMissing(f"{root} holds no Chromium: remove that folder")
    fonts = root / "fonts.conf"
    text = _FONTS_CONF.format(root=root)
    if not fonts.exists() or fonts.read_text(encoding="utf-8") != text:  # the project's folder may have moved
        fonts.write_text(text, encoding="utf-8")
    return Chromium(program, root)


def _libraries(root: Path) -> list[Path]:
    """The folders that hold shared libraries."""
    files = (file for top in ("usr/lib", "lib") for file in (root / top).glob("*-linux-*/**/*.so*"))
    return sorted({file.parent for file in files})
