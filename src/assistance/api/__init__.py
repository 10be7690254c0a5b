"""The HTTP door: in comes a bot's call, out goes an answer that says the truth about what is on disk.

`app` puts the parts together, `intake` takes requests, `status` tells where they are, `health` answers probes,
`problem_types` holds every kind of refusal. What the door needs from the flow stands in `door`; a crash while a call is
being answered leaves either nothing or the whole request, because only the flow behind the door writes.
"""
