"""What values of settings have to look like, for whoever declares settings."""


def of_schemes(url: str, *schemes: str) -> str:
    """Return `url`, which begins with one of `schemes`. Raises: ValueError, which lists them."""
    if not url.startswith(schemes):
        raise ValueError(f"must begin with {' or '.join(schemes)}")
    return url


def listen_address(listen: str) -> str:
    """Return `listen`, which is host:port. Raises: ValueError."""
    # gRPC takes a port modulo 65536 without a word.
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError("must be host:port, with a port from 0 to 65535")
    return listen
