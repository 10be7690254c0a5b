"""What is stored about one customer of one client: handed out, or erased.

In comes the id that the client gave its customer, out go the rows or the report of what could not be reached. Each
batch is one transaction, so that a crash leaves whole requests, and the next run goes on.
"""
