"""The history of the flow: what happened each minute on each channel, kept at a falling resolution, and who is at work.

The conciliation process writes it from the tables of the flow; the charts of the console, `GET /stats` and
`assistance stats` read it. Nothing is decided by it.
"""
