"""Finds requests and dead letters by what people know about them, also among a million.

A filter comes from a query string and goes back into one. What no index serves is looked for among the newest rows,
and the answer says how far it looked.
"""
