"""Measures the service beside a bare web server, the obvious way to do the same, and what others offer: `make bench`.

Rows say what is measured (`accepting`, `relaying`, …), ways say what is started, the stand has the servers.
"""
