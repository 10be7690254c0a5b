"""What `make bench` makes of its figures."""

from __future__ import annotations

from bench.measuring import OURS, PER_SECOND, Case, Result, Row, Sample, Target, measure
from bench.page import DATA, PAGE, SCALE_DATA, chapter, page
from bench.report import Report, read

RIVAL = "rival"
TWICE = Target(figure=PER_SECOND, limit=2, against=[RIVAL])


def result(title: str, ours: list[float], rival: list[float], *targets: Target, void: str = "") -> Result:
    made = Result(title=title, note="")
    for case, values in ((OURS, ours), (RIVAL, rival)):
        for value in values:
            made.add(case, Sample(figures={PER_SECOND: value}, void=void))
    made.verdicts = [made.judge(target) for target in targets]
    return made


def test_the_page_shows_what_was_measured() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(read(DATA), read(SCALE_DATA))


def test_cases_are_measured_in_turn_so_that_a_slow_moment_is_slow_for_all() -> None:
    order: list[str] = []

    def case(name: str) -> Case:
        def run() -> Sample:
            order.append(name)
            return Sample(figures={PER_SECOND: len(order)})

        return Case(name=name, measure=run)

    found = measure(Row(title="", note="", cases=[case("a"), case("b")]), 3, lambda: None)
    assert order == ["a", "b"] * 3
    assert found.median("a", PER_SECOND) == 3


def test_a_case_that_fails_is_void_and_costs_the_others_nothing() -> None:
    def fail() -> Sample:
        raise AssertionError("nothing moves")

    cases = [Case(name="a", measure=fail), Case(name="b", measure=lambda: Sample(figures={PER_SECOND: 1}))]
    found = measure(Row(title="", note="", cases=cases), 2, lambda: None)
    assert found.void == {"a": ["it failed: nothing moves"] * 2}
    assert found.figures["b"] == {PER_SECOND: [1, 1]}


def test_a_ratio_is_one_of_medians_to_the_best_of_the_others() -> None:
    found = result("", [210, 190, 9_000], [100, 1, 101])
    assert found.judge(TWICE).met
    assert found.judge(TWICE).measured == "2.10 \N{MULTIPLICATION SIGN} (210)"
    found.add("another", Sample(figures={PER_SECOND: 200}))
    assert found.judge(Target(figure=PER_SECOND, limit=2, against=[RIVAL, "another"])).met is False


def test_a_limit_is_the_most_where_less_is_better() -> None:
    found = result("", [50], [1])
    assert found.judge(Target(figure=PER_SECOND, limit=50, is_most=True)).met
    assert found.judge(Target(figure=PER_SECOND, limit=49, is_most=True)).met is False


def test_a_void_or_missing_case_neither_meets_nor_misses_a_target() -> None:
    assert result("", [200], [100], void="two calls are not stored").judge(TWICE).met is None
    assert result("", [200], []).judge(TWICE).met is None


def test_a_target_that_was_missed_and_a_row_that_another_wins_come_first() -> None:
    won = result("won", [300], [100], TWICE)
    missed = result("missed", [150], [100], TWICE)
    beaten = result("beaten", [100], [101])
    limited = result("limited", [100], [101])
    limited.limits = [RIVAL]
    report = Report(command="", surroundings={}, compared={}, results=[won, limited, missed, beaten])
    shown = chapter(report)
    titles = [line.removeprefix("### ") for line in shown.splitlines() if line.startswith("### ")]
    assert titles[:4] == ["missed", "beaten", "won", "limited"]
    assert shown.index("**not met**") < shown.index("| met |")
