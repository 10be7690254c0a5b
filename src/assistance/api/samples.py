"""Examples of a call, to be copied: with curl, and with `assistance.client` where it can make the call."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from assistance.api.operations import Operation

#: What the examples in Python start from.
PYTHON_START = (
    "import os\n\nfrom assistance.client import Client\n\n"
    'client = Client(os.environ["ASSISTANCE_URL"], key=os.environ.get("ASSISTANCE_KEY"))'
)


def shell_start(url: str) -> str:
    """What the examples in the shell start from."""
    # Printable ASCII, so that it is also a header where no key is needed and nobody puts one in.
    return f"export ASSISTANCE_URL={shlex.quote(url)}\nexport ASSISTANCE_KEY=your-key"


def samples_of(operation: Operation, body: Mapping[str, Any] | None, topics: Sequence[str]) -> list[dict[str, str]]:
    """The examples of one operation, in the form that the extension `x-codeSamples` has elsewhere too."""
    samples = [{"lang": "Shell", "label": "curl", "source": operation.shell or _curl(operation, body)}]
    if operation.python:
        topic = "sales" if "sales" in topics or not topics else topics[0]
        source = operation.python.replace('"sales"', json.dumps(topic, ensure_ascii=False))
        samples.append({"lang": "Python", "label": "Python", "source": source})
    return samples


def _curl(operation: Operation, body: Mapping[str, Any] | None) -> str:
    examples = {p.name: str(p.example) for p in operation.parameters if p.place == "path" and p.example is not None}
    path = re.sub(r"<(?:\w+:)?(\w+)>", lambda match: examples.get(match[1], "…"), operation.path)
    words = ["curl"]
    words += ["-X " + operation.method] if operation.method not in ("GET", "POST") or _posts_nothing(operation) else []
    query = "&".join(f"{p.name}={p.curl}" for p in operation.parameters if p.place == "query" and p.curl is not None)
    words.append(f'"$ASSISTANCE_URL{path}{"?" if query else ""}{query}"')
    lines = [" ".join(words)]
    if operation.scope is not None:
        lines.append('-H "Authorization: Bearer $ASSISTANCE_KEY"')
    headers = [parameter for parameter in operation.parameters if parameter.place == "header"]
    lines += [f'-H "{header.name}: {header.curl}"' for header in headers if header.curl is not None]
    if body is not None:
        lines += ["-H 'Content-Type: application/json'", "-d " + shlex.quote(json.dumps(body, ensure_ascii=False))]
    return " \\\n  ".join(lines)


def _posts_nothing(operation: Operation) -> bool:
    return operation.method == "POST" and operation.body is None
