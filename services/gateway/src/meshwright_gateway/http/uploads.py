"""POST /api/v1/knowledge-bases/{id}/documents: a file passes through, never whole in memory."""

from collections.abc import AsyncIterator
from typing import Final

from meshwright.rag.v1 import document_pb2, knowledge_service_pb2
from meshwright_common.context import bind
from meshwright_common.errors import InvalidArgument, ServiceError
from meshwright_gateway.errors import BodyTooLarge, ClientGone, DocumentTooLarge, misshapen
from meshwright_gateway.http.exchange import Exchange
from meshwright_gateway.http.json_body import check_struct_depth, parse_json_object
from meshwright_gateway.http.multipart import MultipartReader, PartHead, Piece
from meshwright_gateway.http.schemas.knowledge import UploadedDocument
from meshwright_gateway.peers import Peers
from meshwright_gateway.settings import GatewaySection
from meshwright_gateway.wire import values
from meshwright_gateway.wire.knowledge import document_view

_FORM_BYTES: Final = 64 * 1024
"""What a form may hold beside the file: boundaries, headers, fields."""
_MAX_FIELD_BYTES: Final = 20 * 1024
_PIECE_BYTES: Final = 256 * 1024
_FIELDS: Final = ("name", "media_type", "metadata")
_MAX_TEXT: Final = 255


class UploadRoute:
    """Uploads: one file part named `file`; fields name, media_type and metadata before it."""

    def __init__(self, peers: Peers, settings: GatewaySection) -> None:
        self._knowledge = peers.knowledge
        self._settings = settings

    async def upload(self, exchange: Exchange, knowledge_base_id: str) -> None:
        """Store a document; it is indexed afterwards."""
        # It takes as long as its client takes, and little else: it keeps no place among the others.
        exchange.leave_load()
        form = _Form(exchange, knowledge_base_id, self._settings)
        with bind(exchange.call_context(self._settings.upload_timeout_seconds)):
            try:
                stored = await self._knowledge.UploadDocument(
                    form.requests(), timeout=self._settings.upload_timeout_seconds
                )
            except ServiceError:
                if form.error is not None:
                    raise form.error from None
                raise
        view = UploadedDocument(document=document_view(stored.document), duplicate=stored.duplicate)
        exchange.headers_out.append(
            (b"location", f"/api/v1/documents/{view.document.document_id}".encode())
        )
        await exchange.respond_json(202, view.model_dump(mode="json"))


class _Form:
    """Reads the form of one upload."""

    def __init__(
        self, exchange: Exchange, knowledge_base_id: str, settings: GatewaySection
    ) -> None:
        self._exchange = exchange
        self._limit_bytes = settings.upload_limit_bytes
        length = exchange.headers.get(b"content-length")
        if length is not None and int(length) > self._limit_bytes + _FORM_BYTES:
            raise DocumentTooLarge(limit_bytes=str(self._limit_bytes))
        self._reader = MultipartReader(
            exchange.headers.get(b"content-type"), settings.upload_part_limit
        )
        self._header = document_pb2.DocumentHeader(
            knowledge_base_id=knowledge_base_id, request_id=exchange.idempotency_key()
        )
        self.error: ServiceError | ClientGone | None = None
        self._fields: dict[str, bytearray] = {}
        self._has_file = False
        self._file_bytes = 0
        self._read_bytes = 0

    async def requests(self) -> AsyncIterator[knowledge_service_pb2.UploadDocumentRequest]:
        """Yield the header, then the bytes. `error` is what was wrong with the form, if anything.

        Then the last message is one that the service refuses: half a document must not be stored,
        and a call that is cancelled may look like one that has ended.
        """
        try:
            async for request in self._requests():
                yield request
        except (ServiceError, ClientGone) as error:
            self.error = error
            yield knowledge_service_pb2.UploadDocumentRequest(data=b"")

    async def _requests(self) -> AsyncIterator[knowledge_service_pb2.UploadDocumentRequest]:
        part: PartHead | None = None
        held = bytearray()
        async for piece in self._pieces():
            if isinstance(piece, PartHead):
                part = piece
                if self._begin(piece):
                    yield knowledge_service_pb2.UploadDocumentRequest(header=self._header)
            elif part is not None and part.file_name is None:
                self._add_to_field(part.name, piece)
            else:
                self._count(len(piece))
                held += piece
                if len(held) >= _PIECE_BYTES:
                    yield knowledge_service_pb2.UploadDocumentRequest(data=bytes(held))
                    held.clear()
        if not self._has_file:
            raise misshapen("file", "is required: a part named file with a filename")
        if held:
            yield knowledge_service_pb2.UploadDocumentRequest(data=bytes(held))

    def _begin(self, part: PartHead) -> bool:
        """Take note of a part; return whether it is the file."""
        if part.file_name is None:
            _check_field(part, self._fields, self._has_file)
            self._fields[part.name] = bytearray()
            return False
        if part.name != "file":
            raise misshapen(part.name[:100], "is not a file of this form: name the part file")
        if self._has_file:
            raise misshapen("file", "must be one file: send each in its own request")
        self._has_file = True
        self._take_fields(part)
        return True

    def _add_to_field(self, name: str, data: bytes) -> None:
        field = self._fields[name]
        field += data
        if len(field) > _MAX_FIELD_BYTES:
            raise misshapen(name, f"must be at most {_MAX_FIELD_BYTES} bytes")

    async def _pieces(self) -> AsyncIterator[Piece]:
        more = True
        while more:
            message = await self._exchange.receive()
            if message["type"] != "http.request":
                raise ClientGone
            body = message.get("body", b"")
            more = message.get("more_body", False)
            self._read_bytes += len(body)
            if self._read_bytes > self._limit_bytes + _FORM_BYTES:
                raise BodyTooLarge(limit_bytes=str(self._limit_bytes + _FORM_BYTES))
            for piece in self._reader.feed(body):
                yield piece
        self._reader.finish()

    def _count(self, size: int) -> None:
        self._file_bytes += size
        if self._file_bytes > self._limit_bytes:
            raise DocumentTooLarge(limit_bytes=str(self._limit_bytes))

    def _take_fields(self, file: PartHead) -> None:
        texts = {name: _decoded(name, raw) for name, raw in self._fields.items()}
        self._header.name = texts.get("name") or file.file_name or ""
        self._header.media_type = texts.get("media_type") or _known_type(file.media_type)
        if len(self._header.name) > _MAX_TEXT:
            raise misshapen("name", f"must be at most {_MAX_TEXT} characters")
        if len(self._header.media_type) > _MAX_TEXT:
            raise misshapen("media_type", f"must be at most {_MAX_TEXT} characters")
        if texts.get("metadata"):
            try:
                content = check_struct_depth(parse_json_object(texts["metadata"].encode()))
            except ValueError as error:
                raise misshapen("metadata", str(error)) from None
            except InvalidArgument as error:
                raise misshapen("metadata", f"must be a JSON object: {error.message}") from None
            self._header.metadata.CopyFrom(values.struct_from(content))


def _check_field(part: PartHead, fields: dict[str, bytearray], has_file: bool) -> None:
    if part.name not in _FIELDS:
        raise misshapen(
            part.name[:100], f"is not a field of this form; fields are {', '.join(_FIELDS)}"
        )
    if part.name in fields:
        raise misshapen(part.name, "stands twice in the form")
    if has_file:
        raise misshapen(part.name, "must come before the file")


def _decoded(name: str, raw: bytearray) -> str:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise misshapen(name, "is not UTF-8") from None
    if "\0" in text:
        raise misshapen(name, "must not hold the character NUL")
    return text


def _known_type(media_type: str) -> str:
    """Return what the client says of a file, unless it says nothing."""
    return "" if media_type == "application/octet-stream" else media_type
