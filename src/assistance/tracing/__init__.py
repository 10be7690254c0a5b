"""Traces: one request's way through all processes, as OpenTelemetry shows it. Off unless a setting turns them on.

`context` reads and writes the header `traceparent`; it needs no library, so that logs carry the trace of a caller in
any case. `spans` is what the stages call; while traces are off it does nothing. Only `otel` knows OpenTelemetry.
"""
