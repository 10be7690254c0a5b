"""Who may call: clients with their API keys, and issuers whose tokens are trusted.

`keys` makes and reads keys, `store` keeps their digests, `issuers` checks JSON Web Tokens, `authenticate` turns a
header into a caller. What is stored cannot be turned back into a key: whoever loses one gets a new one.
"""
