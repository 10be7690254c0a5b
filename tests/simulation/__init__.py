"""A model of the whole flow in one thread: one seed, one run; the project's own rules, and servers in memory.

What is real: the decisions (`deliveries.settle`, `deliveries.steps`, the retry schedule, the request's status) and the
words of `domain`. What is modelled: the statements (`statements`, `fallback`, `nets`), PostgreSQL's transactions and
row locks (`store`), RabbitMQ (`broker`) and the providers (`providers`), each as badly behaved as it was measured.
`test_the_model_agrees.py` holds the statements against a real PostgreSQL. See docs/simulation.md.
"""
