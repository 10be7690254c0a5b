"""Reads: where a request is, what waits, how much goes on. Changes nothing."""
