"""The one exception that turns a test into a visible skip."""


class ServerMissing(Exception):
    """No way was found to get this server; the text says what was tried."""
