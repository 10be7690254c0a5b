"""The third parties of a test installation: Slack and a mailbox, in a process of their own with an fsynced log."""

from __future__ import annotations

import sys
from pathlib import Path

from assistance.embedded.sandbox.server import serve_sandbox
from assistance.runtime.logs import configure_logs
from assistance.runtime.signals import stop_on_signals

configure_logs("sandbox")
folder = Path(sys.argv[3])
folder.mkdir(exist_ok=True)
serve_sandbox("127.0.0.1", int(sys.argv[1]), int(sys.argv[2]), folder, stop_on_signals())
