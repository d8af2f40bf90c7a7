"""Structured logs on standard error: one JSON object a line, with the ids of the call."""

import contextlib
import logging
import re
import sys
from collections.abc import Iterable, Mapping, MutableMapping
from functools import lru_cache
from typing import Any, Final, Literal, Protocol

import orjson
import structlog

from meshwright_common import context
from meshwright_common.telemetry import trace_context

Level = Literal["debug", "info", "warning", "error"]


class TextSink(Protocol):
    """Where lines of text go."""

    def write(self, text: str, /) -> object: ...

    def flush(self) -> object: ...


_SECRET_KEY: Final = re.compile(
    r"authorization|password|secret|api_?key|private|cookie|(^|_)token$", re.IGNORECASE
)
_SECRET_VALUE: Final = re.compile(
    r"mw_[A-Za-z0-9_-]{43}_[0-9a-z]{7}"  # our API keys
    r"|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"  # signed tokens
    r"|(?<=://)[^/@\s:]*:[^@\s/]+(?=@)"  # user and password of a URL
    r"|(?i:bearer)\s+[A-Za-z0-9._~+/=-]{8,}"
    r"|sk-[A-Za-z0-9_-]{16,}"  # keys of model providers
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?-----END [A-Z ]*PRIVATE KEY-----"
)
_HIDDEN: Final = "***"
_direct: "list[JsonSink]" = []
"""Where lines go that are JSON already: one per process, as the root logger's handler is."""
_MAX_TEXT: Final = 8000
_MAX_DEPTH: Final = 5


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of a module: `logger.info("event_in_snake_case", field=value)`."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def configure(
    service: str,
    *,
    level: Level = "info",
    log_format: Literal["json", "console"] = "json",
    sink: TextSink | None = None,
) -> None:
    """Send all logs of the process, libraries' too, to `sink` or standard error, secrets hidden.

    `service` is on every line. Calling it again replaces the configuration.
    """
    # All in the formatter, so that libraries' lines pass it too, and loggers need not change.
    processors: list[structlog.types.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _ServiceName(service),
        add_call_ids,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        redact,
    ]
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer(serializer=_to_json)
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sink or sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=[*processors, renderer]))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    _direct[:] = [JsonSink(service, handler)] if log_format == "json" else []


class JsonSink:
    """The handler that `configure` made, for lines that are JSON already."""

    def __init__(self, service: str, handler: "logging.StreamHandler[TextSink]") -> None:
        self.service = service
        self._handler = handler

    def is_in_place(self) -> bool:
        """Return whether the root logger writes here and nowhere else."""
        return logging.getLogger().handlers == [self._handler]

    def write(self, line: str) -> None:
        """Write a whole line, as the handler does: errors end on standard error."""
        handler = self._handler
        with handler.lock or contextlib.nullcontext():
            try:
                handler.stream.write(line)
                handler.flush()
            except OSError:
                handler.handleError(logging.makeLogRecord({"msg": line}))


def json_sink() -> JsonSink | None:
    """Return where JSON lines go; None: logs are no JSON, or somebody else's."""
    return _direct[-1] if _direct and _direct[-1].is_in_place() else None


def without_secrets(text: str) -> str:
    """Return `text` as it may stand in a log: shortened, encodable, secrets hidden."""
    return _clean_text(text)


def masked(text: str) -> str:
    """Return `text` whole, with what has the form of a secret hidden."""
    return _SECRET_VALUE.sub(_HIDDEN, text)


class _ServiceName:
    def __init__(self, service: str) -> None:
        self._service = service

    def __call__(
        self, logger: object, method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        event["service"] = self._service
        return event


def add_call_ids(
    logger: object, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Add request, trace and tenant ids of the call being served, if any."""
    call = context.current()
    if call.request_id:
        event.setdefault("request_id", call.request_id)
    if call.correlation_id and call.correlation_id != call.request_id:
        event.setdefault("correlation_id", call.correlation_id)
    if call.traceparent:
        event.setdefault("trace_id", trace_context.trace_id(call.traceparent))
        event.setdefault("span_id", trace_context.span_id(call.traceparent))
    if call.principal is not None:
        event.setdefault("tenant_id", call.principal.tenant_id)
    return event


def redact(
    logger: object, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Hide secrets by the name of their field and by their form, at any depth."""
    for key, value in event.items():
        event[key] = _clean(key, value, 0)
    return event


@lru_cache(maxsize=1024)
def _is_secret(key: str) -> bool:
    return _SECRET_KEY.search(key) is not None


def _clean(key: str, value: object, depth: int) -> object:
    if value and _is_secret(key):
        return _HIDDEN
    if isinstance(value, (Mapping, list, tuple, set, frozenset)):
        return _clean_items(value, depth + 1)
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return value
    return _clean_text(str(value))


def _clean_text(text: str) -> str:
    text = text[:_MAX_TEXT]
    if not text.isascii():
        # Surrogates cannot be written as UTF-8, and would cost the line.
        text = text.encode("utf-8", errors="replace").decode("utf-8")
    return _SECRET_VALUE.sub(_HIDDEN, text)


def _clean_items(items: Mapping[object, object] | Iterable[object], depth: int) -> object:
    if depth > _MAX_DEPTH:
        return "…"
    if isinstance(items, Mapping):
        return {str(name): _clean(str(name), item, depth) for name, item in items.items()}
    return [_clean("", item, depth) for item in items]


def _to_json(event: dict[str, Any], **_: object) -> str:
    return orjson.dumps(event, default=str).decode("utf-8", errors="replace")
