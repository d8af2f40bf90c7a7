"""GET /api/v1/usage/export: the ledger as a file, row by row."""

import csv
import io
from collections.abc import Iterable
from typing import Annotated, Final, Literal
from urllib.parse import parse_qsl

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from meshwright.session.v1 import usage_service_pb2
from meshwright_common.context import bind
from meshwright_common.errors import ServiceError
from meshwright_common.rpc.stream import open_stream
from meshwright_gateway.http.exchange import API_HEADERS, NO_STORE, Exchange
from meshwright_gateway.http.presence import LongAnswers, Presence
from meshwright_gateway.http.schemas.records import UsageRow
from meshwright_gateway.http.validation import validated
from meshwright_gateway.peers import Peers
from meshwright_gateway.wire import values
from meshwright_gateway.wire.records import usage_row

Form = Literal["csv", "jsonl"]

_WRITE_BYTES: Final = 32 * 1024
_TYPES: Final = {"csv": b"text/csv; charset=utf-8", "jsonl": b"application/jsonl"}
_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r")


class ExportQuery(BaseModel):
    """Which rows, and in which form."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Form = "csv"
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
        download = _Download(exchange, self._answers, query.format)
        with bind(exchange.call_context(None)):
            async with download, open_stream(self._usage.ExportRows(request)) as rows:
                async for row in rows:
                    content = usage_row(row)
                    if query.format == "csv":
                        await download.add(_csv_line(content.values()))
                    else:
                        await download.add(orjson.dumps(content) + b"\n")


class _Download(Presence):
    """A file that is sent while it is made."""

    def __init__(self, exchange: Exchange, answers: LongAnswers, form: Form) -> None:
        super().__init__(exchange, answers)
        self._form = form
        self._held = _csv_line(UsageRow.model_fields) if form == "csv" else b""

    async def add(self, data: bytes) -> None:
        """Send the next bytes, many at once."""
        self._held += data
        if len(self._held) >= _WRITE_BYTES:
            await self._start()
            held, self._held = self._held, b""
            await self.exchange.write(held)

    async def _start(self) -> None:
        if not self.exchange.status:
            name = f'attachment; filename="usage.{self._form}"'.encode()
            headers = [
                (b"content-type", _TYPES[self._form]),
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
        await self._start()
        await self.exchange.finish(self._held)


def _csv_line(cells: Iterable[object]) -> bytes:
    line = io.StringIO()
    csv.writer(line).writerow([_cell(cell) for cell in cells])
    return line.getvalue().encode()


def _cell(value: object) -> object:
    """Return a value that no spreadsheet takes for a formula."""
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return "'" + value
    return value
