"""What an author of a channel type tests with: servers that misbehave on demand, and the contract as a test class.

`channel_contract.ChannelContract` needs pytest; the servers (`http_server`, `slack_server`, `smtp_server`) need nothing
but the standard library. They listen on loopback only.
"""
