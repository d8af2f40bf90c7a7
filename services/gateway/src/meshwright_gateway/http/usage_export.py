"""GET /api/v1/usage/export: the ledger as a file, row by row."""

from collections.abc import Callable, Mapping
from typing import Annotated, Final, Literal, NamedTuple
from urllib.parse import parse_qsl

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from meshwright.session.v1 import usage_service_pb2
from meshwright_common.context import bind
from meshwright_common.errors import ServiceError
from meshwright_common.rpc.stream import open_stream
from meshwright_gateway.http.exchange import API_HEADERS, NO_STORE, Exchange
from meshwright_gateway.http.presence import LongAnswers, Presence
from meshwright_gateway.http.usage_files import CsvFile, JsonLines, ParquetFile, UsageFile
from meshwright_gateway.http.validation import validated
from meshwright_gateway.peers import Peers
from meshwright_gateway.wire import values
from meshwright_gateway.wire.records import usage_row

Form = Literal["csv", "jsonl", "ndjson", "parquet"]

_WRITE_BYTES: Final = 32 * 1024


class _Kind(NamedTuple):
    media_type: str
    make: Callable[[], UsageFile]


_KINDS: Final[Mapping[Form, _Kind]] = {
    "csv": _Kind("text/csv; charset=utf-8", CsvFile),
    "jsonl": _Kind("application/jsonl", JsonLines),
    "ndjson": _Kind("application/x-ndjson", JsonLines),
    "parquet": _Kind("application/vnd.apache.parquet", ParquetFile),
}
_ACCEPTED: Final[Mapping[str, Form]] = {
    "text/csv": "csv",
    "application/jsonl": "jsonl",
    "application/x-ndjson": "ndjson",
    "application/vnd.apache.parquet": "parquet",
}


class ExportQuery(BaseModel):
    """Which rows, and in which form."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Annotated[Form | None, Field(description="Absent: as Accept says, or CSV.")] = None
    start_time: Annotated[AwareDatetime | None, Field(description="Inclusive.")] = None
    end_time: Annotated[AwareDatetime | None, Field(description="Exclusive.")] = None


class UsageExportRoute:
    """Writes the ledger rows that the caller may see."""

    def __init__(self, peers: Peers, answers: LongAnswers) -> None:
        self._usage = peers.usage
        self._answers = answers

    async def export(self, exchange: Exchange) -> None:
        """Send the rows in time order. An export that fails half-way breaks the connection."""
        query_string = exchange.scope["query_string"].decode("latin-1")
        query = validated(ExportQuery, dict(parse_qsl(query_string, keep_blank_values=True)))
        request = usage_service_pb2.ExportRowsRequest(
            start_time=values.timestamp_of(query.start_time),
            end_time=values.timestamp_of(query.end_time),
        )
        form = query.format or _accepted(exchange.headers.get(b"accept", b""))
        download = _Download(exchange, self._answers, form)
        with bind(exchange.call_context(None)):
            async with download, open_stream(self._usage.ExportRows(request)) as rows:
                async for row in rows:
                    await download.add(usage_row(row))


def _accepted(header: bytes) -> Form:
    """Return the first form that an Accept header names; CSV when it names none of ours."""
    for accepted in header.decode("latin-1").lower().split(","):
        form = _ACCEPTED.get(accepted.partition(";")[0].strip())
        if form is not None:
            return form
    return "csv"


class _Download(Presence):
    """A file that is sent while it is made."""

    def __init__(self, exchange: Exchange, answers: LongAnswers, form: Form) -> None:
        super().__init__(exchange, answers)
        self._form = form
        self._file = _KINDS[form].make()
        self._held = bytearray()

    async def add(self, row: Mapping[str, object]) -> None:
        """Add a row, and send what the file has grown by, many bytes at once."""
        self._held += await self._file.add(row)
        if len(self._held) >= _WRITE_BYTES:
            await self._start()
            held = bytes(self._held)
            self._held.clear()
            await self.exchange.write(held)

    async def _start(self) -> None:
        if not self.exchange.status:
            name = f'attachment; filename="usage.{self._form}"'.encode()
            headers = [
                (b"content-type", _KINDS[self._form].media_type.encode()),
                (b"content-disposition", name),
                NO_STORE,
                *API_HEADERS,
            ]
            await self.exchange.start(200, headers)

    async def fail(self, error: ServiceError) -> None:
        if not self.exchange.status:
            raise error
        self.exchange.connection.abort()

    async def end(self) -> None:
        self._held += await self._file.end()
        await self._start()
        await self.exchange.finish(bytes(self._held))
