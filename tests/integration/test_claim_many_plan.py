"""A group of first tries is found by its ids: what it costs does not grow with what waits."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

from assistance.deliveries.claim_many import _TAKE
from assistance.storage.database import Database
from assistance.storage.expressions import as_arrays


def test_no_plan_looks_for_deliveries_by_anything_but_their_ids(database_url: str) -> None:
    database = Database(database_url, looks_up=True)
    rows = [{"id": uuid4(), "channel": "people", "series": 1, "token": uuid4()} for _ in range(8)]
    with database.transaction() as connection:
        statement = _TAKE.compile(dialect=connection.dialect)
        given = {**statement.params, **as_arrays("wanted", rows), "lease": timedelta(seconds=60)}
        plan = connection.exec_driver_sql(f"EXPLAIN {statement}", given).scalars().all()
    database.close()
    locked = next(number for number, line in enumerate(plan) if "LockRows" in line)
    reads = [line.strip() for line in plan[locked:] if " on deliveries" in line or "Index Cond" in line]
    assert "using deliveries_pk on deliveries" in reads[0], plan
    assert "id = ANY" in reads[1], plan
