"""The simulation can fail: each idea of the design, left out, is missed within a few runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from tests.simulation.campaign import catch
from tests.simulation.design import MUTANTS, Design


def test_every_switch_of_the_design_is_a_mutant_and_described() -> None:
    assert [field.name for field in fields(Design)] == list(MUTANTS)
    page = (Path(__file__).resolve().parents[2] / "docs" / "simulation.md").read_text(encoding="utf-8")
    assert "".join(f"| `{name}` | {does} |\n" for name, does in MUTANTS.items()) in page


@pytest.mark.parametrize("name", MUTANTS)
def test_the_design_without_this_idea_is_caught(
    name: str, record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]
) -> None:
    caught = catch(name)
    assert caught is not None, f"nothing went wrong when {MUTANTS[name]}"
    record_property("first_seed", caught.seed)
    with capsys.disabled():
        print(f"\n{name}: {MUTANTS[name]}. Caught at seed {caught.seed}: {caught.violation}")
