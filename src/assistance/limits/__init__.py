"""How often a client may call, counted for all processes of the API together in one row per client.

In comes a client's name, out goes whether its call fits. A crash forgets at most the calls that a process had in hand.
"""
