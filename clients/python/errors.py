"""What a client may raise. Every message says what to do with it; none holds a token."""

from __future__ import annotations


class ClientError(Exception):
    """Base of all errors of the clients."""


class ConnectionFailed(ClientError):
    """No connection after all attempts; `__cause__` is the last attempt's error."""


class Refused(ClientError):
    """The server said no, and would say so again: wrong token, unknown model, forbidden origin.

    `code` is the protocol's error code or the HTTP status as text; `close_code` that of the WebSocket.
    """

    def __init__(self, code: str, detail: str, close_code: int | None = None) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.close_code = close_code


class ServerMisbehaved(ClientError):
    """The server broke the protocol; `__cause__` is the WireError, or the error of the WebSocket library."""


class Stalled(ClientError):
    """The connection is there, and nothing that is due comes. The clients reconnect; nobody else sees this."""


class ClientClosed(ClientError):
    """The client was closed, here or by `bye`."""
