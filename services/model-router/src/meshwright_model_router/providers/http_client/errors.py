"""How a request can fail before and amid its answer; all are OSErrors, as the system's own are.

    OSError
    |- ConnectTimeout     no connection, or none free, in time
    |- AddressRefused     the host has no address that may be connected to
    |- RequestUnsendable  a header cannot be written
    '- ConnectionError
       |- Disconnected    closed before the answer's head
       |  '- NotSent      ... and before anything of the request left: safe to send again
       |- Truncated       closed amid the body
       '- NotHttp         what came is no HTTP/1.1 answer, or beyond its limits

Refused connections, names that do not resolve and what TLS refuses come as the system's errors.
"""


class ConnectTimeout(OSError):
    """No connection in time. Not a TimeoutError, which would be the caller's own limit."""


class AddressRefused(OSError):
    """Every address of the host is private, and the request may leave for public ones only."""


class RequestUnsendable(OSError):
    """A header holds what no header may hold. The text names it, never its value."""


class Disconnected(ConnectionError):
    """The server closed the connection without an answer."""


class NotSent(Disconnected):
    """The connection was closed before anything of the request left this machine."""


class Truncated(ConnectionError):
    """The connection closed before the body's end."""


class NotHttp(ConnectionError):
    """The answer is not HTTP/1.1, or breaks a limit. The text says how."""


class HeadTimeout(Exception):
    """The head of the answer did not come in time."""
