"""The command line in a test: words in, exit code and text out."""

from __future__ import annotations

import pytest

from assistance.cli import run

#: The configuration file that the commands find.
FILE = """
[channels.people]
type = "webhook"
url = "http://127.0.0.1:9/hook"
secret = "env:HOOK_SECRET"

[channels.inbox]
type = "webhook"
url = "http://127.0.0.1:9/hook"
secret = "env:HOOK_SECRET"
timeout = "2.5s"

[topics]
help = "people"
both = ["people", "inbox"]
"""


class Terminal:
    """Runs commands as a shell would: words in, exit code and text out."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.err = ""

    def run(self, *words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            run(*words)
        captured = self._capsys.readouterr()
        self.err = captured.err
        code = ended.value.code
        return (code if isinstance(code, int) else 0), captured.out
