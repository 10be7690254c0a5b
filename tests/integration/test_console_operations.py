"""The pages of operations and of the audit log."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import Any

from assistance.domain.operator import Role
from tests.builders import World
from tests.console_tools import Browser, signed_in, text_of

LIST = "/console/operations"


def begun(world: World, *, expected: int = 40, done: int = 0, state: str = "waiting", **more: Any) -> str:
    """An operation that a worker has brought so far."""
    columns = {
        "kind": "replay",
        "filter": '{"channel": "people"}',
        "actor": "ada",
        "via": "console",
        "errors": "{}",
        "refused": 0,
        **more,
    }
    names = ", ".join(columns)
    (row,) = world.database.run(
        lambda c: c.exec_driver_sql(
            f"INSERT INTO operations (id, state, per_second, expected, done, upper_bound, ended_at, {names})"
            " VALUES (gen_random_uuid(), %(state)s, 2, %(expected)s, %(done)s, now()::text,"
            " CASE WHEN %(state)s IN ('done', 'cancelled', 'failed') THEN now() END, "
            + ", ".join(f"%({name})s" for name in columns)
            + ") RETURNING id",
            {"state": state, "expected": expected, "done": done, **columns},
        ).all()
    )
    return str(row.id)


def state_of(world: World) -> str:
    (row,) = world.rows("SELECT state FROM operations")
    return str(row.state)


def exported(browser: Browser, path: str) -> str:
    answer = browser.get(path)
    assert answer.status_code == 200
    assert answer.headers["Content-Disposition"].startswith("attachment; filename=")
    return answer.text


def test_an_operation_shows_how_far_it_is_how_fast_and_what_was_refused(world: World) -> None:
    operation = begun(world, done=9, refused=1, state="running", errors='{"Nothing to replay <here>.": 1}')
    browser = signed_in(world, Role.VIEWER)
    for path in (LIST, f"{LIST}/{operation}"):
        page = text_of(browser.get(path))
        assert "10 of 40 (25 %)" in page, path
        assert "1 refused" in page
        assert "15 s" in page, "30 that are left, two a second"
        assert "2 a second" in page
        assert "channel people" in page
    assert "1 Nothing to replay <here>." in page
    assert f'href="{LIST}/{operation}"' in browser.get(LIST).text
    assert "25 % replay: running" in browser.get(f"{LIST}/{operation}").text


def test_an_operation_is_cancelled_and_resumed_and_both_are_in_the_log(world: World) -> None:
    operation = begun(world, done=20, state="running")
    browser = signed_in(world, name="bob")
    page = f"{LIST}/{operation}"
    cancelled = browser.act(f"{page}/cancel", page=page)
    assert (cancelled.status_code, cancelled.headers["Location"]) == (303, page)
    assert "what was done stays done" in text_of(browser.get(page))
    assert state_of(world) == "cancelled"
    twice = browser.act(f"{page}/cancel", page=page)
    assert twice.status_code == 409
    assert "The operation is cancelled already. Nothing was done." in text_of(twice)
    assert browser.act(f"{page}/resume", page=page).status_code == 303
    assert state_of(world) == "waiting"
    log = text_of(browser.get(f"/console/audit?operation_id={operation}"))
    assert "bob (console) cancel" in log
    assert "bob (console) resume" in log
    assert "state running" in log


def test_operations_that_do_not_exist_are_not_found(world: World) -> None:
    browser = signed_in(world)
    missing = f"{LIST}/01a1fc7e-2ccd-784a-8c72-549b47e809ff"
    assert browser.get(missing).status_code == 404
    assert browser.act(f"{missing}/cancel").status_code == 409
    assert browser.get(f"{LIST}/not-an-id").status_code == 404
    assert "No operation yet." in text_of(browser.get(LIST))


def test_many_operations_come_in_pages(world: World) -> None:
    for _ in range(26):
        begun(world)
    browser = signed_in(world, Role.VIEWER)
    first = browser.get(LIST).text
    older = re.findall(r'rel="next" href="([^"]+)"', first)[0]
    second = browser.get(older).text
    ids = [re.findall(r'<tr data-id="([^"]+)"', page) for page in (first, second)]
    assert (len(ids[0]), len(ids[1]), len(set(ids[0] + ids[1]))) == (25, 1, 26)


def test_the_log_is_filtered_and_exported_as_it_is_filtered(world: World) -> None:
    for name in ("ada", "=HYPERLINK(1)"):
        world.execute(
            "INSERT INTO audit (actor, via, action, subject_kind, subject, after, reason) VALUES"
            """ (:name, 'command', 'pause', 'channel', 'people', '{"state": "paused"}', '<b>quiet</b>, please')""",
            name=name,
        )
    browser = signed_in(world, Role.VIEWER, name="vic")
    page = text_of(browser.get("/console/audit?actor=ada"))
    assert "ada (command) pause channel people" in page
    assert "state paused" in page
    assert "<b>quiet</b>, please" in page
    assert "sign in" not in page.split("Request id")[1]
    assert "No line of the audit log matches" in text_of(browser.get("/console/audit?actor=nobody"))
    rows = list(csv.DictReader(io.StringIO(exported(browser, "/console/audit.csv"))))
    assert [row["actor"] for row in rows] == ["vic", "'=HYPERLINK(1)", "ada"]
    lines = exported(browser, "/console/audit.json?action=pause&actor=ada").splitlines()
    (line,) = [json.loads(line) for line in lines]
    assert (line["subject"], line["after"], line["reason"]) == ("people", {"state": "paused"}, "<b>quiet</b>, please")
    assert browser.get("/console/audit.csv?via=pigeon").status_code == 400
    assert exported(browser, "/console/audit.csv?actor=nobody").startswith("id,at,actor,")


def test_the_log_says_by_which_call_something_was_done(world: World) -> None:
    browser = signed_in(world, name="ada")
    operation = begun(world)
    token = browser.token_on(LIST)
    browser.post(f"{LIST}/{operation}/cancel", {"csrf": token}, headers={"X-Request-Id": "call-7"})
    page = text_of(browser.get("/console/audit?request_id=call-7"))
    assert f"cancel operation {operation}" in page
    assert "call-7" in page
