"""Signed doors for other people's webhooks: `POST /ingest/<source>`.

In come raw bytes. `verify` says purely whether they are authentic, `mapping` makes a submission of them, `receive`
stores it together with the message's id, so that a repeat has no second effect. A message that is authentic but cannot
be mapped is kept as a dead letter; `replay` maps it again. A crash leaves either everything or nothing.
"""
