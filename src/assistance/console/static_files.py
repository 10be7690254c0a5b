"""The console's styles and scripts, each under an address that holds its checksum, so that browsers may keep it."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import flask

FOLDER = Path(__file__).parent / "static"
_KEPT = "public, max-age=31536000, immutable"
_KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".md": "text/plain"}


def add_routes(blueprint: flask.Blueprint) -> None:
    """Serve the files; nobody has to be signed in for them."""

    @blueprint.get("/static/<checksum>/<path:name>")
    def static_file(checksum: str, name: str) -> flask.Response:
        content = _files().get(name)
        if content is None:
            flask.abort(404)
        kind = _KINDS.get(Path(name).suffix, "text/plain")
        answer = flask.Response(content[1], content_type=f"{kind}; charset=utf-8")
        # A page of the version before this one asks with another checksum: it gets what there is, and keeps it not.
        answer.headers["Cache-Control"] = _KEPT if checksum == content[0] else "no-store"
        return answer


def static(name: str) -> str:
    """The address of a file. Raises `KeyError` when there is none."""
    return f"/console/static/{_files()[name][0]}/{name}"


@cache
def _files() -> dict[str, tuple[str, bytes]]:
    """Every file by its name, with its checksum; read once."""
    found = {}
    for path in sorted(FOLDER.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            found[path.relative_to(FOLDER).as_posix()] = (hashlib.sha256(content).hexdigest()[:16], content)
    return found
