"""Stores a request with its deliveries and their hints in one transaction: what a 202 promises.

In comes a checked submission, out goes the id. A crash leaves either everything or nothing. Submissions that come at
the same moment share a transaction, and none of them depends on the others.
"""
