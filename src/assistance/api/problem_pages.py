"""`GET /problems/<code>`: what a refusal means and what to do, for the person who reads the logs of a bot."""

from __future__ import annotations

from html import escape

import flask

from assistance.api.operations import Answer, Operation, Parameter
from assistance.api.problem_types import NOT_FOUND, PROBLEM_TYPES, ProblemType
from assistance.api.problems import Problem

_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title></head>
<body>
<h1>{title}</h1>
<p><code>{code}</code>, HTTP status {http_status}, {retryable}</p>
<h2>What it means</h2>
<p>{meaning}</p>
<h2>What to do</h2>
<p>{remedy}</p>
</body>
</html>
"""


def add_routes(app: flask.Flask) -> None:
    """Serve one page for every kind of problem."""

    @app.get("/problems/<code>")
    def explain(code: str) -> flask.Response:
        kind = PROBLEM_TYPES.get(code)
        if kind is None:
            raise Problem(NOT_FOUND, "No problem has this code.")
        answer = flask.Response(_page(kind), content_type="text/html; charset=utf-8")
        answer.headers["Content-Security-Policy"] = "default-src 'none'; frame-ancestors 'none'"
        return answer


def retry_sentence(kind: ProblemType) -> str:
    """Whether a program should simply try again."""
    return "worth repeating unchanged" if kind.retryable else "not worth repeating unchanged"


def _page(kind: ProblemType) -> str:
    return _PAGE.format(
        title=escape(kind.title),
        code=escape(kind.code),
        http_status=kind.http_status,
        retryable=retry_sentence(kind),
        meaning=escape(kind.meaning),
        remedy=escape(kind.remedy),
    )


OPERATIONS = (
    Operation(
        method="GET",
        path="/problems/<code>",
        name="problem",
        group="Beside it",
        summary="What a problem means and what to do",
        parameters=(
            Parameter(
                name="code",
                place="path",
                description="The `code` of a problem.",
                schema={"type": "string", "enum": list(PROBLEM_TYPES)},
                example=NOT_FOUND.code,
            ),
        ),
        answers=(Answer(http_status=200, description="A page.", media_type="text/html"),),
    ),
)
