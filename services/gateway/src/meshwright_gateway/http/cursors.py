"""Where a reader of a stream left off: `Last-Event-ID`, or the same in the query."""

import re
from typing import Final
from urllib.parse import parse_qs

from meshwright_gateway.errors import CursorUnknown
from meshwright_gateway.http.exchange import Exchange

_SEQUENCE: Final = re.compile(r"[0-9]{1,18}")


def cursor(exchange: Exchange, subject_id: str) -> int:
    """Return the sequence of the last event seen, of an id `<subject_id>:…:<sequence>`; 0: none.

    Raises: CursorUnknown for an event of anything else.
    """
    given = exchange.headers.get(b"last-event-id", b"").decode("latin-1").strip()
    if not given:
        query = parse_qs(exchange.scope["query_string"].decode("latin-1"))
        given = query.get("last_event_id", [""])[0].strip()
    if not given:
        return 0
    subject, sequence = given.partition(":")[0], given.rpartition(":")[2]
    if not _SEQUENCE.fullmatch(sequence) or (":" in given and subject.lower() != subject_id):
        raise CursorUnknown(last_event_id=given[:100])
    return int(sequence)
