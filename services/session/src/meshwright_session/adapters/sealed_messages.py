"""Messages as their table keeps them: content sealed, words blinded for search.

One door for all who write or read rows of `messages`. The digests of words are keyed by tenant and
mixed with the user, so they match messages of that user alone.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from meshwright_common.encryption import KeyRing, Place, TenantKeys
from meshwright_common.storage.postgres import Record
from meshwright_common.text.terms import prepare, terms
from meshwright_session.domain.models import NewMessage, Owner, StoredMessage
from meshwright_session.domain.titles import title_of

MAX_TERMS: Final = 1000
"""Different words that a message is found by: the first so many."""
_TERMS_AT_ONCE: Final = 100
"""Words never seen before are stemmed within 2 ms; then others on the loop have a turn."""


@dataclass(frozen=True, slots=True)
class MessageColumns:
    """Columns of new rows, each in the order of the messages; and a title for the session.

    `words` has the digests of a message with blanks between them: `string_to_array(words, ' ')`.
    `title` is sealed, or None when no user's message is among them.
    """

    ids: list[str]
    roles: list[str]
    contents: list[bytes]
    words: list[str]
    title: bytes | None


async def sealed(
    ring: KeyRing, owner: Owner, session_id: str, messages: Sequence[NewMessage]
) -> MessageColumns:
    """Return the columns of messages that `owner` stores. Not to be called in a transaction."""
    cut = [await _terms(message.text) for message in messages]
    keys = await ring.keys_of(owner.tenant_id)
    said = next((one.text for one in messages if one.role == "user" and one.text), "")
    return MessageColumns(
        ids=[message.message_id for message in messages],
        roles=[message.role for message in messages],
        contents=[
            keys.seal(content_place(message.message_id), message.content) for message in messages
        ],
        words=[" ".join(blinded(keys, owner.user_id, found)) for found in cut],
        title=sealed_title(keys, session_id, title_of(said)),
    )


def opened(keys: TenantKeys, row: Record) -> StoredMessage:
    """Return the message of a row with its columns. Raises: SealBroken."""
    return StoredMessage(
        message_id=row["message_id"],
        session_id=row["session_id"],
        sequence=row["sequence"],
        turn_id=row["turn_id"],
        content=opened_content(keys, row["message_id"], row["content"]),
        create_time=row["create_time"],
    )


def opened_content(keys: TenantKeys, message_id: str, content: bytes) -> bytes:
    """Return what a message says. Raises: SealBroken."""
    return keys.open(content_place(message_id), content)


def content_place(message_id: str) -> Place:
    """Return what the content of a message is bound to."""
    return Place("session.messages", "content", message_id)


def sealed_title(keys: TenantKeys, session_id: str, title: str) -> bytes | None:
    """Return a title as the table `sessions` keeps it; None for none."""
    return keys.seal(_title_place(session_id), title.encode()) if title else None


def opened_title(keys: TenantKeys, session_id: str, title: bytes | None) -> str:
    """Return a session's title; empty for none. Raises: SealBroken."""
    return "" if title is None else keys.open(_title_place(session_id), title).decode()


async def query_words(ring: KeyRing, owner: Owner, query: str) -> list[str]:
    """Return the digests of a query's words; empty when it has none."""
    found = await _terms(query)
    return blinded(await ring.keys_of(owner.tenant_id), owner.user_id, found)


def blinded(keys: TenantKeys, user_id: str, words: Iterable[str]) -> list[str]:
    """Return the digests under which a user's words are kept."""
    return keys.blind(f"{user_id} {word}" for word in words)


def _title_place(session_id: str) -> Place:
    return Place("session.sessions", "title", session_id)


async def _terms(text: str) -> list[str]:
    """Return the different words of a text, in order, without holding up others for long."""
    await prepare(text)
    found: dict[str, None] = {}
    for number, (_, term) in enumerate(terms(text), start=1):
        found[term] = None
        if len(found) == MAX_TERMS:
            break
        if number % _TERMS_AT_ONCE == 0:
            await asyncio.sleep(0)
    return list(found)
