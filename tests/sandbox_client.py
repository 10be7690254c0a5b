"""How the tests talk to a sandbox: with slack-sdk, smtplib and a plain HTTP client."""

from __future__ import annotations

import json
import smtplib
import urllib.error
import urllib.request
from email.message import EmailMessage
from typing import Any

import pytest
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from assistance.embedded.sandbox import Sandbox


def slack(sandbox: Sandbox, token: str | None = "xoxb-any", timeout: int = 10) -> WebClient:
    url = f"http://127.0.0.1:{sandbox.slack_port}/api/"
    return WebClient(token=token, base_url=url, retry_handlers=[], timeout=timeout)


def call(port: int, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def control(sandbox: Sandbox, **orders: Any) -> None:
    status, answer = call(sandbox.slack_port, "/control", json.dumps(orders).encode())
    assert status == 200, answer


def messages(sandbox: Sandbox) -> Any:
    return call(sandbox.slack_port, "/messages")[1]


def send_mail(port: int, subject: str = "Pricing", body: str = "How much?") -> None:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "bot@example.com", "pricing@example.com", subject
    mail.set_content(body)
    with smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
        client.send_message(mail)


def refusal(error: pytest.ExceptionInfo[SlackApiError]) -> str:
    return str(error.value.response["error"])
