"""What we compare with: the same call answered without a database, and stored in the obvious way."""
