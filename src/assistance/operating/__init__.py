"""What operators do: single acts, operations on many things at once, and the log of who did what.

Every act is written into the audit log in its own transaction. Operations are rows that the conciliation process
carries out.
"""
