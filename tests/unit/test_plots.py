"""Small plots in the terminal say more where there is more, and nothing where nobody knows."""

from __future__ import annotations

import pytest

from assistance.cli.plots import gathered, plot


def test_a_higher_value_has_a_higher_mark() -> None:
    assert plot([1, 2, 3, 4, 5, 6, 7]) == "▂▃▄▅▆▇█"


def test_nothing_is_told_from_little_and_from_what_nobody_knows() -> None:
    assert plot([0, 1, None, 1_000_000]) == "▁▂ █"
    assert plot([0, 0]) == "▁▁"
    assert plot([None]) == " "
    assert plot([]) == ""


def test_a_terminal_without_blocks_gets_letters() -> None:
    assert plot([0, 1, 100], ascii_only=True).isascii()
    assert len(set(plot([0, 1, 100], ascii_only=True))) == 3


@pytest.mark.parametrize("many", [0, 1, 19, 20, 21, 60, 361, 400])
@pytest.mark.parametrize("width", [1, 20, 120])
def test_a_plot_is_as_wide_as_there_is_room_and_loses_nothing(many: int, width: int) -> None:
    values = [1.0] * many
    found = gathered(values, width, sum)
    assert len(found) <= width
    assert sum(value or 0 for value in found) == many


def test_neighbours_of_which_one_is_known_count_as_that_one() -> None:
    assert gathered([None, 2, None, None, 1, 3], 3, max) == [2, None, 3]
