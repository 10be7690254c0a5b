"""Fallback through real processes: the second channel steps in, and the first does not tell people again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.e2e.installation import Installation, installation, wait_until

TOPIC, TEXT = "backed", "the first channel is down"


def deliveries(running: Installation, request_id: str) -> dict[str, Any]:
    status, body = running.get(f"/assistance/{request_id}")
    return {delivery["channel"]: delivery for delivery in body["deliveries"]} if status == 200 else {}


def test_a_channel_that_is_down_is_stepped_in_for_and_tells_nobody_when_it_returns(
    tmp_path: Path, database_url: str, broker_url: str
) -> None:
    with installation(tmp_path, database_url, broker_url) as running:
        running.control({"slack": {"fail_next": 1000}})
        request_id = running.post_until_accepted(TOPIC, TEXT)
        wait_until(lambda: running.status_of(request_id) == "delivered", seconds=30, what="the fallback told people")
        wait_until(
            lambda: deliveries(running, request_id)["sales-team"]["state"] == "cancelled",
            seconds=30,
            what="the first channel gave up",
        )
        found = deliveries(running, request_id)
        assert [(d["step"], d["state"]) for d in found.values()] == [(0, "cancelled"), (1, "delivered")]
        assert found["sales-team"]["last_error"]["detail"] == "Handled elsewhere: delivered to pricing-inbox."
        assert found["sales-team"]["attempts"] >= 1
        running.control({"slack": {"fail_next": 0}})
        later = running.post_until_accepted("sales", "the first channel is back")
        wait_until(lambda: running.status_of(later) == "delivered", seconds=40, what="the first channel works again")
        assert running.slack_messages() == {"the first channel is back": 1}
        (mail,) = running._sandbox("/messages")["mails"]
        assert TEXT in mail["body"]
        assert "Sent here because sales-team has not confirmed it since " in mail["body"]
        assert running.cli("ledger").returncode == 0
        story = running.cli("show", request_id).stdout
        assert "cancelled" in story
        assert "assistance.fallback" in story
