"""The hints that wait to be published: written in the transaction of the data they announce, deleted when confirmed.

A crash leaves rows behind, never gaps: a row is due because it exists, and nobody keeps a cursor.
"""
