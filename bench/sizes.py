"""How many of everything: the same for everybody who takes part."""

HTTP_WORKERS, HTTP_THREADS = 2, 64
DELIVERY_THREADS = 8
#: Connections to PostgreSQL that one process may have.
POOL_SIZE = 16
