"""Checks a ZIP based format before anything in it is unpacked."""

import stat
import zipfile
from pathlib import Path
from typing import Final

from meshwright_rag.domain.errors import DocumentBroken, DocumentEncrypted, DocumentLimit
from meshwright_rag.domain.parsed import ParseLimits

_ENCRYPTED_FLAG: Final = 0x1
_RATIO_FREE_BYTES: Final = 1024 * 1024
"""An archive that unpacks to less than this is harmless whatever its ratio."""


def check_archive(path: Path, limits: ParseLimits) -> frozenset[str]:
    """Return the names in the archive after checking what unpacking it would take.

    The directory's sizes can be trusted as upper bounds: `zipfile` never returns more bytes of an
    entry than its directory says. Raises: DocumentBroken, DocumentEncrypted, DocumentLimit.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise DocumentBroken(detail=str(error)) from error
    if len(entries) > limits.max_archive_entries:
        raise DocumentLimit(limit=f"{limits.max_archive_entries} files inside the file")
    if any(entry.flag_bits & _ENCRYPTED_FLAG for entry in entries):
        raise DocumentEncrypted()
    _check_sizes(entries, path.stat().st_size, limits)
    _check_overlap(entries)
    names = frozenset(entry.filename for entry in entries)
    if len(names) != len(entries) or any(_is_link(entry) for entry in entries):
        raise DocumentBroken(detail="the archive holds a name twice, or a link")
    return names


def _check_sizes(entries: list[zipfile.ZipInfo], packed: int, limits: ParseLimits) -> None:
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > limits.max_unpacked_bytes:
        raise DocumentLimit(limit=f"{limits.max_unpacked_bytes} bytes unpacked")
    allowed = max(packed * limits.max_unpack_ratio, _RATIO_FREE_BYTES)
    if unpacked > allowed:
        raise DocumentLimit(limit=f"{limits.max_unpack_ratio} times its size unpacked")


def _check_overlap(entries: list[zipfile.ZipInfo]) -> None:
    """Refuse entries that share bytes: the trick behind the densest archive bombs."""
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if entry.header_offset < end:
            raise DocumentBroken(detail="parts of the archive overlap")
        end = entry.header_offset + entry.compress_size


def _is_link(entry: zipfile.ZipInfo) -> bool:
    return stat.S_ISLNK(entry.external_attr >> 16)
