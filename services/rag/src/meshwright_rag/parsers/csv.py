"""CSV: each record becomes one block that repeats the column names, so that it stands alone."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from meshwright_rag.domain.errors import DocumentBroken
from meshwright_rag.domain.parsed import BlockKind, DocumentBuilder, ParsedDocument, ParseLimits
from meshwright_rag.parsers.charset import decode

_DELIMITERS: Final = ",;\t|"
_SNIFFED_CHARACTERS: Final = 64 * 1024
_MAX_FIELD_CHARACTERS: Final = 1_000_000
_MAX_COLUMN_NAME: Final = 100


def parse_csv(path: Path, limits: ParseLimits) -> ParsedDocument:
    """Return one block per record: `name: value; name: value`.

    The first record is the header when its fields are all present, all different and none of
    them a number. Raises: DocumentBroken, DocumentEncoding, DocumentEmpty, DocumentLimit.
    """
    text, charset = decode(path.read_bytes())
    csv.field_size_limit(_MAX_FIELD_CHARACTERS)
    builder = DocumentBuilder(limits)
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=_delimiter(text), skipinitialspace=True
    )
    header: list[str] | None = None
    try:
        for index, record in enumerate(reader):
            fields = [" ".join(field.split()) for field in record]
            if index == 0 and _is_header(fields):
                header = [name[:_MAX_COLUMN_NAME] for name in fields]
                builder.add(BlockKind.TABLE_ROW, " | ".join(header))
            else:
                builder.add(BlockKind.TABLE_ROW, _row(header, fields))
    except csv.Error as error:
        message = f"line {reader.line_num} is not CSV ({error}): mend it and upload the file again"
        raise DocumentBroken(message, line=str(reader.line_num)) from error
    return builder.build(charset=charset)


def _delimiter(text: str) -> str:
    try:
        return csv.Sniffer().sniff(_whole_lines(text), delimiters=_DELIMITERS).delimiter
    except csv.Error:
        return ","  # a single column has no delimiter to find


def _whole_lines(text: str) -> str:
    sample = text[:_SNIFFED_CHARACTERS]
    return sample if len(text) <= len(sample) else sample.rpartition("\n")[0]


def _is_header(fields: Sequence[str]) -> bool:
    return (
        len(fields) > 1
        and all(fields)
        and len(set(fields)) == len(fields)
        and not any(_is_number(field) for field in fields)
    )


def _is_number(field: str) -> bool:
    try:
        float(field.replace(",", "").rstrip("%"))
    except ValueError:
        return False
    return True


def _row(header: Sequence[str] | None, fields: Sequence[str]) -> str:
    if header is None:
        return " | ".join(fields) if any(fields) else ""
    names = [*header, *("" for _ in fields[len(header) :])]
    named = zip(names, fields, strict=False)
    return "; ".join(f"{name}: {field}" if name else field for name, field in named if field)
