"""docs/failure-matrix.md names tests that exist, and leaves no row out."""

from __future__ import annotations

import ast
import re
from functools import cache
from itertools import chain
from pathlib import Path

import pytest

from assistance.runtime.faults import POINTS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "failure-matrix.md").read_text(encoding="utf-8")
#: Row, then the tests that its last cell names.
ROWS = {cells[1].strip(): cells[4] for cells in (line.split("|") for line in PAGE.splitlines()) if len(cells) == 6}
NAMED = sorted({name for cell in ROWS.values() for name in re.findall(r"`([^`]+)`", cell)})
N_LOOP = "test_a_process_killed_at_any_point_loses_nothing_and_doubles_nothing"
SIZES = {"A": 15, "R": 14, "K": 5, "C": 22, "T": 14, "F": 12}


@cache
def functions_of(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("name", NAMED)
def test_every_test_that_the_matrix_names_exists(name: str) -> None:
    path, _, function = name.partition("::")
    assert function.startswith("test_")
    assert function in functions_of(path)


def test_the_matrix_has_every_row_once_and_says_so_where_a_test_is_missing() -> None:
    rows = re.findall(r"^\| ([ARKCTF]\d+) \|", PAGE, re.MULTILINE)
    assert rows == list(chain.from_iterable([f"{part}{n}" for n in range(1, size + 1)] for part, size in SIZES.items()))
    assert all("::" in cell or cell.strip() == "none" for row, cell in ROWS.items() if row in rows)


def test_every_row_with_a_fault_point_names_the_test_that_kills_there() -> None:
    assert {row for row, cell in ROWS.items() if N_LOOP in cell} == {point.row for point in POINTS.values()}
