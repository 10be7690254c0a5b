"""What a run gave, as data that is kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.measuring import Result, Verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """How it was measured, on what, beside whom, and what came of it."""

    command: str
    surroundings: Mapping[str, str]
    compared: Mapping[str, str]
    results: Sequence[Result]

    @property
    def is_void(self) -> bool:
        """Whether any case of any row does not count."""
        return any(result.void for result in self.results)

    def write(self, path: Path) -> None:
        """Keep the data."""
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read(path: Path) -> Report | None:
    """What the last run kept; none when there was none."""
    if not path.exists():
        return None
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    results = [
        Result(**{**one, "verdicts": [Verdict(**verdict) for verdict in one["verdicts"]]}) for one in data["results"]
    ]
    return Report(**{**data, "results": results})
