"""What an entry of the manifest is."""

from __future__ import annotations

from typing import NamedTuple


class Promise(NamedTuple):
    """What holds on every substrate, and the document that says so."""

    text: str
    source: str
