"""Collections of hostile input that others wrote; they stand beside the repository, and tests skip without them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

_FOLDER = Path(__file__).resolve().parents[3] / "shared" / "corpora"


def corpus(name: str) -> Any:
    """The parsed JSON file; skips the test when it is not there."""
    path = _FOLDER / name
    if not path.is_file():
        pytest.skip(f"the corpus {name} is not here")
    return json.loads(path.read_text(encoding="utf-8"))


def naughty_strings() -> list[str]:
    """The Big List of Naughty Strings, without those that are no text at all."""
    return [base64.b64decode(line).decode("utf-8", "replace") for line in corpus("naughty-strings/blns.base64.json")]
