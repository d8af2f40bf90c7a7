"""Stored answers over HTTP: `x-meshwright-cache` asks for them, `x-cache` and `age` tell the truth.

x-meshwright-cache: exact
x-meshwright-cache: semantic; min-similarity=0.9; ttl=3600; refresh; no-store; private
"""

from typing import Final

from meshwright.model_router.v1 import generation_pb2, model_service_pb2
from meshwright_common.errors import InvalidArgument, invalid
from meshwright_gateway.http.exchange import Exchange

HEADER: Final = "x-meshwright-cache"
MAX_HEADER_BYTES: Final = 200
MIN_SIMILARITY: Final = 0.5
MAX_TTL_SECONDS: Final = 7 * 24 * 3600
_STATUSES: Final = {
    generation_pb2.CACHE_STATUS_MISS: b"MISS",
    generation_pb2.CACHE_STATUS_HIT: b"HIT",
    generation_pb2.CACHE_STATUS_SEMANTIC_HIT: b"SEMANTIC_HIT",
    generation_pb2.CACHE_STATUS_BYPASS: b"BYPASS",
}
_SWITCHES: Final = {"refresh": "refresh", "no-store": "no_store", "private": "private"}


def ask(exchange: Exchange, request: model_service_pb2.GenerateRequest) -> None:
    """Put the use of stored answers into the request, if its client asks for them.

    Raises: InvalidArgument for a header that cannot be read.
    """
    header = exchange.headers.get(HEADER.encode())
    if header is not None:
        request.cache.CopyFrom(cache_use(header.decode("latin-1")))


def tell(exchange: Exchange, started: generation_pb2.GenerateStarted) -> None:
    """Say in the answer's head where it comes from, if its client asked for stored answers."""
    status = _STATUSES.get(started.cache_status)
    if status is not None:
        exchange.headers_out.append((b"x-cache", status))
        if started.HasField("cache_age"):
            age = max(0, started.cache_age.seconds)
            exchange.headers_out.append((b"age", str(age).encode()))


def cache_use(header: str) -> generation_pb2.CacheUse:
    """Return what the header asks for. Raises: InvalidArgument."""
    if len(header) > MAX_HEADER_BYTES:
        raise _wrong(f"must be at most {MAX_HEADER_BYTES} bytes")
    kind, *directives = (one.strip() for one in header.lower().split(";"))
    if kind not in {"exact", "semantic"}:
        raise _wrong("must begin with exact or semantic")
    use = generation_pb2.CacheUse(semantic=kind == "semantic")
    seen: set[str] = set()
    for directive in directives:
        name, equals, value = (part.strip() for part in directive.partition("="))
        if name in seen:
            raise _wrong(f"has {name} twice")
        seen.add(name)
        if name in _SWITCHES and not equals:
            setattr(use, _SWITCHES[name], True)
        elif name == "ttl" and equals:
            use.ttl.FromSeconds(_seconds(value))
        elif name == "min-similarity" and equals and use.semantic:
            use.min_similarity = _similarity(value)
        else:
            raise _wrong(
                "knows ttl=SECONDS, refresh, no-store, private, and after semantic "
                "min-similarity=NUMBER"
            )
    return use


def _seconds(value: str) -> int:
    if not (value.isascii() and value.isdecimal()) or not 1 <= int(value) <= MAX_TTL_SECONDS:
        raise _wrong(f"needs ttl from 1 to {MAX_TTL_SECONDS} seconds")
    return int(value)


def _similarity(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    # Comparison this way round, so that nan is outside too.
    if not MIN_SIMILARITY <= number <= 1:
        raise _wrong(f"needs min-similarity from {MIN_SIMILARITY} to 1")
    return number


def _wrong(what: str) -> InvalidArgument:
    return invalid(HEADER, what)
