"""What every bot of the comparison asks."""

from __future__ import annotations

TOPIC = "sales"
CHANNEL = "sales-team"

#: About 300 characters as JSON; the generator puts the number of the call in place of the `@`.
BODY = {
    "topic": TOPIC,
    "description": "A customer wants an offer for 40 seats, billed each year, for a team in three countries. "
    "She asks whether the price of the larger plan holds until the end of the quarter.",
    "customer": {"id": "cus_42", "name": "Ada"},
    "metadata": {"order": "@"},
}
