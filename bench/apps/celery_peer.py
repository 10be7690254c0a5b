"""Celery on RabbitMQ, as durable as its documents make it: a quorum queue, confirmed publishing, late acks.

The task is sent after the commit: a crash between the two loses the request.
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from kombu import Queue

from bench.apps.telling import tell
from bench.apps.view import Stored, TakeIn, in_one_transaction, storing_app
from bench.sizes import DELIVERY_THREADS, POOL_SIZE

QUEUE = "bench.celery"
# kombu takes the name of a virtual host as it stands, and no name for the first one.
celery = Celery("bench", broker=os.environ["BENCH_BROKER_URL"].removesuffix("%2F"))
celery.conf.update(
    task_queues=[Queue(QUEUE, queue_arguments={"x-queue-type": "quorum"})],
    task_default_queue=QUEUE,
    task_default_exchange_type="direct",
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    broker_transport_options={"confirm_publish": True},
    broker_pool_limit=POOL_SIZE,
    worker_detect_quorum_queues=True,
    worker_prefetch_multiplier=16,
    worker_concurrency=DELIVERY_THREADS,
)


@celery.task(autoretry_for=(Exception,), retry_backoff=2, retry_jitter=True, max_retries=8)
def deliver(task: dict[str, Any]) -> None:
    tell(task)


def _take_in(store: TakeIn) -> TakeIn:
    def take_in(body: dict[str, Any], key: str) -> Stored:
        stored = store(body, key)
        deliver.delay(stored.task)
        return stored

    return take_in


app = storing_app(_take_in(in_one_transaction(lambda _connection, _stored: None)))
