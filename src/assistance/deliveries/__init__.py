"""The one place where a delivery or a request changes state.

`claim` takes a delivery for a try or a look-up, `settle` decides purely what an outcome means, `transition` writes
it down, `bury` and `replay` lead into and out of the dead letters, `fallback` begins the next step of a request.
Lock order everywhere: request, delivery, outbox.
"""
