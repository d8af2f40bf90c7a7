"""Bytes to text. The encoding is known, declared, or told with confidence: never guessed at.

Wrong characters that look right spoil search and citations for ever and nobody notices. So bytes
that are damaged UTF-8, and bytes whose encoding cannot be told, are refused with a reason.
"""

import codecs
import re
from collections.abc import Callable
from typing import Final

from charset_normalizer import CharsetMatch, from_bytes

from meshwright_rag.domain.errors import DocumentEmpty, DocumentEncoding, DocumentTypeUnsupported

_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf_32_le"),  # before UTF-16: its mark begins with the same two bytes
    (codecs.BOM_UTF32_BE, "utf_32_be"),
    (codecs.BOM_UTF8, "utf_8"),
    (codecs.BOM_UTF16_LE, "utf_16_le"),
    (codecs.BOM_UTF16_BE, "utf_16_be"),
    (b"\x84\x31\x95\x33", "gb18030"),
)
_CANDIDATES: Final = (
    "gb18030",
    "big5hkscs",
    "cp932",
    "euc_jp",
    "cp949",
    "cp1252",
    "cp1251",
    "koi8_r",
    "cp1250",
    "utf_16_le",
    "utf_16_be",
)
"""Encodings that are told apart from the bytes alone; of equally good ones the first wins."""

_SUPERSETS: Final = {
    # What files say and what they mean (WHATWG Encoding Standard).
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "big5": "big5hkscs",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "iso8859-1": "cp1252",
    "latin-1": "cp1252",
    "ascii": "cp1252",
}
_MAX_CHAOS: Final = 0.1
_SAME_CHAOS: Final = 0.02
_CLEARLY_COHERENT: Final = 0.15
_SAMPLE_BYTES: Final = 256 * 1024

_MOSTLY_UTF8: Final = 0.8
_UTF8_SEQUENCE: Final = re.compile(
    rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}"
)
_HIGH_BYTE: Final = re.compile(rb"[\x80-\xff]")
_BINARY: Final = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_BINARY_SHARE: Final = 0.001
_UNLIKELY: Final = re.compile(
    "[\x80-\x9f\xa4\xa6\xac\xaf\xb2\xb3\xb8\xb9\xfe\xff]|[^\x00-\x7f]{4,}"
)


def decode(raw: bytes, *, declared: str | None = None) -> tuple[str, str]:
    """Return the text and the name of its encoding (Python's name, a byte order mark removed).

    `declared` is what the document says about itself; it is believed only if it fits.
    Raises: DocumentEmpty; DocumentEncoding; DocumentTypeUnsupported for binary content.
    """
    if not raw.strip():
        raise DocumentEmpty()
    for mark, encoding in _MARKS:
        if raw.startswith(mark):
            return _checked(_strict(raw[len(mark) :], encoding), encoding)
    try:
        return _checked(raw.decode("utf-8"), "utf_8")
    except UnicodeDecodeError as error:
        _refuse_damaged_utf8(raw, error)
    name = _superset(declared)
    if name:
        try:
            return _checked(raw.decode(name), name)
        except UnicodeDecodeError:
            pass  # the declaration is wrong, as declarations are: look at the bytes
    return _detected(raw)


def _strict(raw: bytes, name: str) -> str:
    try:
        return raw.decode(name)
    except UnicodeDecodeError as error:
        raise DocumentEncoding(
            f"the file says it is {name.replace('_', '-').upper()} but byte {error.start} does not"
            " fit: save it as UTF-8 and upload it again",
            encoding=name,
            byte=str(error.start),
        ) from error


def _refuse_damaged_utf8(raw: bytes, error: UnicodeDecodeError) -> None:
    """Raise when the bytes are UTF-8 but for a few: then any other reading is mojibake."""
    sequences = _UTF8_SEQUENCE.findall(raw)
    high = len(_HIGH_BYTE.findall(raw))
    if sum(map(len, sequences)) >= high * _MOSTLY_UTF8:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DocumentEncoding(
            f"the text is UTF-8 but for damaged bytes, the first at byte {error.start} (line"
            f" {line}): mend that place, or save the file as UTF-8 again",
            encoding="utf-8",
            byte=str(error.start),
            line=str(line),
        )


def _superset(declared: str | None) -> str | None:
    try:
        name = codecs.lookup(declared or "").name
    except (LookupError, ValueError):
        return None
    name = name.replace("-", "_") if name.startswith(("shift", "euc")) else name
    return _SUPERSETS.get(name, name)


def _detected(raw: bytes) -> tuple[str, str]:
    sample = raw[:_SAMPLE_BYTES]
    found = [
        match
        for match in from_bytes(sample, cp_isolation=list(_CANDIDATES), enable_fallback=False)
        if match.chaos <= _MAX_CHAOS
    ]
    for match in sorted(found, key=_preference(found)):
        try:
            text = raw.decode(match.encoding)
        except UnicodeDecodeError:
            continue
        if match.encoding.startswith("cp125") and not _plausible_western(text, match.coherence):
            continue
        return _checked(text, match.encoding)
    raise DocumentEncoding()


def _preference(found: list[CharsetMatch]) -> Callable[[CharsetMatch], tuple[bool, bool, int]]:
    least_chaos = min((match.chaos for match in found), default=0.0)
    coherence = max((match.coherence for match in found), default=0.0)

    def key(match: CharsetMatch) -> tuple[bool, bool, int]:
        return (
            match.chaos > least_chaos + _SAME_CHAOS,
            match.coherence < coherence - _CLEARLY_COHERENT,
            _CANDIDATES.index(match.encoding),
        )

    return key


def _plausible_western(text: str, coherence: float) -> bool:
    """Refuse what decodes only because every byte is some character in a one-byte encoding."""
    return coherence > 0 or _UNLIKELY.search(text) is None


def _checked(text: str, name: str) -> tuple[str, str]:
    """Refuse binary content that happens to decode."""
    sample = text[:_SAMPLE_BYTES]
    if len(_BINARY.findall(sample)) > max(1, len(sample) * _BINARY_SHARE):
        raise DocumentTypeUnsupported(
            "the file holds binary data, not text: upload it with its own type and file name",
        )
    if not text.strip():
        raise DocumentEmpty()
    return text, name
