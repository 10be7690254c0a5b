"""The one place between a bot and the people behind it.

A request for assistance travels through these folders, in this order:

    api/           a bot's POST is parsed strictly and answered 202 only after the commit
    sources/       another service's signed webhook is checked and mapped, then handed on like a bot's POST
    intake/        routes it and stores request + deliveries + outbox in one transaction
    outbox/        the hints that wait to be published, written with the data they announce
    relay/         moves due outbox rows to the broker and deletes them once confirmed
    broker/        carries a hint to the queue of its channel (RabbitMQ, or memory)
    consumer/      claims the delivery, sends it through its channel, settles the outcome
    channels/      Slack, email, webhook, …: one file per way to reach people
    deliveries/    the only code that changes the state of a delivery or a request
    deadletters/   writes down what ended in the dead letter queue
    conciliation/  finds what should have moved and did not, and re-arms it
    status/        answers the bot's GET and the operator's questions

    client.py      the bot's side of it, for bots in Python

Beside that way, clients/ and limits/ say who may call and how often, privacy/ hands out and erases what is stored about
a customer.

Stages meet in tables and messages, never in imports of one another.
"""

__version__ = "0.1.0"
