"""The pages are true of the code, as far as a machine can tell."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
import threading
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import click
import pytest
from prometheus_client import REGISTRY
from sqlalchemy import CheckConstraint
from werkzeug.serving import make_server

from assistance.cli import cli
from assistance.configuration import load_configuration
from assistance.domain.request import RequestStatus
from assistance.settings import PREFIX, Settings
from assistance.storage import tables
from tests.memory_door import MemoryDoor

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
README, FLOW, OPERATIONS = (ROOT / name for name in ("README.md", "docs/flow.md", "docs/operations.md"))

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    return [body for kind, body in FENCE.findall(text_of(page)) if kind == language]


def shell_lines(page: Path) -> list[str]:
    return [line for body in blocks(page, "sh") for line in body.splitlines() if line]


def code(page: Path) -> list[str]:
    """Every shell line and every piece of code within a sentence."""
    return [*shell_lines(page), *re.findall(r"`([^`\n]+)`", FENCE.sub("", text_of(page)))]


def first_cells(page: Path, heading: str) -> list[str]:
    """The code in the first column of the tables below a heading."""
    section = text_of(page).split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^\| `([^`]+)`", section, re.MULTILINE)


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", text_of(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@every_page
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(FENCE.sub("", text_of(page))):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target


def test_the_readme_names_only_commands_that_tests_or_ci_run() -> None:
    makefile, ci = text_of(ROOT / "Makefile"), text_of(ROOT / ".ci" / "run")
    for line in shell_lines(README):
        if line == "make run":  # tests/e2e/test_up.py runs what it runs
            assert re.search(r"^run:.*\n\t@exec \$\(BIN\)/assistance up$", makefile, re.MULTILINE)
        elif not line.startswith("curl "):  # those are run below
            assert line in ci.splitlines()


@pytest.fixture
def door() -> Iterator[str]:
    server = make_server("127.0.0.1", 0, MemoryDoor().app(), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("page", [README, ROOT / "docs" / "api.md"], ids=lambda page: page.name)
def test_what_the_pages_post_with_curl_is_accepted(page: Path, door: str) -> None:
    posts = [line for line in shell_lines(page) if line.startswith("curl ") and " -d " in line]
    assert posts
    accepted: dict[str, str] = {}
    for line in posts:
        assert "http://127.0.0.1:8080/" in line
        # What is done to a request is done to the one that was accepted right before.
        real = re.sub(r"(?<=/assistance/)[0-9a-f-]{36}", accepted["id"], line) if accepted else line
        words = [word for word in shlex.split(real.replace("127.0.0.1:8080", door)) if word != "-i"]
        done = subprocess.run([*words, "-s", "--noproxy", "*"], capture_output=True, check=True, timeout=30)
        accepted = json.loads(done.stdout)
        assert accepted["status"] == "accepted"


@every_page
def test_every_make_target_on_the_pages_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", text_of(ROOT / "Makefile"), re.MULTILINE))
    named = {words[1] for words in map(str.split, code(page)) if words[0] == "make" and len(words) > 1}
    assert named <= targets


@every_page
def test_every_command_on_the_pages_exists_with_its_options(page: Path) -> None:
    for line in code(page):
        if match := re.search(r"(?:^|[ /])assistance ([a-z].*)", line):
            check_command(match[1].split(" | ")[0].split())


def check_command(words: list[str]) -> None:
    command: click.Command = cli
    while words and isinstance(command, click.Group):
        for name in words[0].split("|"):
            assert name in command.commands, f"assistance has no command {name}"
        command = command.commands[words.pop(0).split("|")[0]]
    options = {option for parameter in command.params for option in parameter.opts}
    named = {word.strip("[]") for word in words if word.strip("[]").startswith("--")}
    assert named <= options, f"{command.name} has no {named - options}"


@every_page
def test_every_setting_on_the_pages_exists(page: Path) -> None:
    named = set(re.findall(rf"\b{PREFIX}([A-Z_]+)\b", text_of(page)))
    known = {name.upper() for name in Settings.model_fields}
    assert {name for name in named if not name.startswith("TEST")} <= known


def test_every_setting_is_explained_with_its_default() -> None:
    section = text_of(OPERATIONS).split("\n## Settings\n", 1)[1].split("\n## ", 1)[0]
    rows = {row[0]: row[1] for row in re.findall(r"^\| `([A-Z_]+)` \| ([^|]*) \|", section, re.MULTILINE)}
    assert rows.keys() == {PREFIX + name.upper() for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        written = rows[PREFIX + name.upper()]
        if field.is_required() or field.default is None:
            assert written.startswith(("required", "none")), name
        elif field.default_factory is None:
            assert written.split()[0] == f"`{field.default}`", name


def test_the_page_lists_exactly_the_metrics_that_there_are() -> None:
    gauges = "".join(text_of(page) for page in (ROOT / "src" / "assistance" / "status").glob("*gauges.py"))
    known = set(re.findall(r'GaugeMetricFamily\(\s*"([a-z_]+)"', gauges))
    for metric in REGISTRY.collect():
        if metric.name.startswith(("assistance_", "http_", "db_")):
            known.add(metric.name + "_total" * (metric.type == "counter"))
    assert {name.partition("{")[0] for name in first_cells(OPERATIONS, "Metrics")} == known


def allowed(table: Any, column: str) -> set[str]:
    """The values that a table's CHECK lets into a column."""
    checks = [str(c.sqltext) for c in table.constraints if isinstance(c, CheckConstraint)]
    (listed,) = [check for check in checks if re.fullmatch(rf"{column} IN \([^)]*\)", check)]
    return set(re.findall(r"'(\w+)'", listed))


def test_the_state_machines_show_the_states_that_the_tables_allow() -> None:
    delivery, request = [body for body in blocks(FLOW, "mermaid") if body.startswith("stateDiagram")]
    assert states(delivery) == allowed(tables.deliveries, "state")
    not_yet = {"cancelled", "scheduled", "expired"}
    assert states(request) | not_yet == allowed(tables.requests, "status") == set(RequestStatus)


def states(diagram: str) -> set[str]:
    arrows = re.findall(r"^ +(\S+) --> ([^\s:]+)", diagram, re.MULTILINE)
    return {state for arrow in arrows for state in arrow} - {"[*]"}


def test_the_example_configurations_are_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = blocks(OPERATIONS, "toml")
    secret = tmp_path / "crm"
    secret.write_text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", encoding="utf-8")
    monkeypatch.setenv("SLACK_BOT_TOKEN", "xoxb-1")
    monkeypatch.setenv("SMTP_URL", "smtps://user:password@mail.example.com")
    written = [tmp_path / f"example{number}.toml" for number in range(len(examples))]
    for file, example in zip(written, examples, strict=True):
        file.write_text(example.replace("/run/secrets/crm", str(secret)), encoding="utf-8")
    for file in (*written, ROOT / "deploy" / "assistance.toml"):
        for channel in load_configuration(file).channels.values():
            channel.build()


def test_the_layers_on_the_page_are_those_that_are_enforced() -> None:
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter", encoding="utf-8")
    enforced = contracts["importlinter:contract:layers"]["layers"].replace("assistance.", "").split("\n")
    (shown,) = blocks(ROOT / "CONTRIBUTING.md", "text")
    assert shown.splitlines() == [line.strip() for line in enforced if line.strip()]


def test_every_dependency_that_is_imported_has_its_reason_on_the_page() -> None:
    project = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]
    declared = list(chain(project["dependencies"], *project["optional-dependencies"].values()))
    names = {re.split(r"[\[<>=]", line)[0] for line in declared}
    sources = "\n".join(map(text_of, (ROOT / "src").rglob("*.py")))
    imported = {n for n in names if re.search(rf"(import|from) {n.replace('-', '_')}\b", sources)}
    rows = re.findall(r"^\| ([a-z-]+) \|", text_of(ROOT / "docs/decisions/0007-dependencies.md"), re.MULTILINE)
    assert imported <= set(rows) <= names


def test_every_decision_is_in_the_list() -> None:
    decisions = {page.name for page in (ROOT / "docs" / "decisions").glob("0*.md")}
    assert set(LINK.findall(text_of(ROOT / "docs" / "decisions" / "README.md"))) == decisions
