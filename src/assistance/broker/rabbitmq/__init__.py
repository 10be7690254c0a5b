"""The broker contract on RabbitMQ; the only place that knows pika."""
