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
_WESTERN: Final = re.compile(
    # Typographic signs anywhere, or accented letters beside plain ones, one or two at a time.
    "[\u2018-\u201e\u2013\u2014\u2026\u20ac\u2022\u2122\xa0\xa3\xa7\xa9\xab\xae\xb0\xb7\xbb]"
    "|(?<=[A-Za-z])[\xc0-\xd6\xd8-\xf6\xf8-\xfc\u0152\u0153]{1,2}(?![\xc0-\xff])"
    "|(?<![\xc0-\xff])[\xc0-\xd6\xd8-\xf6\xf8-\xfc\u0152\u0153]{1,2}(?=[A-Za-z])"
)
_OTHER_THAN_ASCII: Final = re.compile("[^\x00-\x7f]")
_ENOUGH_BYTES: Final = 8
"""Fewer bytes above 127 than this fit several encodings equally well."""

_COMMON_HANZI: Final = re.compile(
    # Of these byte pairs, GB 2312's punctuation and its 3 755 most frequent characters, ...
    rb"(?:[\x00-\x7f]|[\xa1\xa3][\xa1-\xfe]|[\xb0-\xd7][\xa1-\xfe])*"
)
_NULL_SHARE: Final = 0.3
"""English in UTF-16 without a mark: every other byte is zero."""


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
    if wide := _unmarked_utf16(raw):
        return _checked(_strict(raw, wide), wide)
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


def _unmarked_utf16(raw: bytes) -> str:
    if len(raw) % 2:
        return ""
    sample = raw[:_SAMPLE_BYTES]
    first, second = sample[::2].count(0), sample[1::2].count(0)
    if max(first, second) < len(sample) / 2 * _NULL_SHARE or min(first, second):
        return ""
    return "utf_16_be" if first else "utf_16_le"


def _detected(raw: bytes) -> tuple[str, str]:
    if _is_western(raw):
        return _checked(raw.decode("cp1252"), "cp1252")
    if len(_HIGH_BYTE.findall(raw[:_SAMPLE_BYTES])) < _ENOUGH_BYTES:
        if _COMMON_HANZI.fullmatch(raw):
            return _checked(raw.decode("gb18030"), "gb18030")
        raise DocumentEncoding()
    found = [
        match
        for match in from_bytes(
            raw[:_SAMPLE_BYTES], cp_isolation=list(_CANDIDATES), enable_fallback=False
        )
        if match.chaos <= _MAX_CHAOS
    ]
    for match in sorted(found, key=_preference(found)):
        try:
            return _checked(raw.decode(match.encoding), match.encoding)
        except UnicodeDecodeError:
            continue  # it fits the sample and not the rest
    raise DocumentEncoding()


def _is_western(raw: bytes) -> bool:
    try:
        text = raw.decode("cp1252")
    except UnicodeDecodeError:
        return False
    return _OTHER_THAN_ASCII.search(_WESTERN.sub("", text)) is None


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
