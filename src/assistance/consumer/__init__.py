"""Receives hints, asks the gate, claims the delivery, sends it through its channel, settles the outcome, then answers.

In comes a message, out goes a settled delivery and an acknowledgement after the commit. A crash leaves a lease that
runs out; whoever comes next looks the message up before it sends anything again.
"""
