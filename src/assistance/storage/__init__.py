"""PostgreSQL: the tables, and the one way to reach them."""
