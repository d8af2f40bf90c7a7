"""Stored answers in Redis, sealed, under names that tell nothing.

`mw:{tenant}:answers:exact:NAME` is an answer; `mw:{tenant}:answers:near:SCOPE` a stream of sealed
vectors with the names of their answers, the newest so many; `mw:{tenant}:answers:of:USER` names the
keys that a user's calls have made, for the user's erasure.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Final

import msgspec

from meshwright_common.clock import Clock
from meshwright_common.encryption import KeyRing, Place, SealBroken
from meshwright_common.erasure.stored import Subject
from meshwright_common.storage.redis import RedisClient, tenant_key, translated_errors
from meshwright_model_router.adapters.near_questions import NearQuestions
from meshwright_model_router.domain.caching.stored_answer import StoredAnswer

FAMILY: Final = "answers"
LONGEST_SECONDS: Final = 7 * 24 * 3600
_FORMAT: Final = b"\x01"
_FIELD: Final = b"e"
_TRIES: Final = 3
"""Questions looked at whose answers may be gone."""


class _NearEntry(msgspec.Struct, array_like=True):
    """A question as the stream has it. `until`: seconds since 1970."""

    name: str
    until: float
    vector: bytes


class RedisAnswers:
    """`AnswerStore` on Redis. Answers of more than `maximum_bytes` are not kept."""

    def __init__(
        self,
        client: RedisClient,
        ring: KeyRing,
        clock: Clock,
        *,
        maximum_bytes: int,
        maximum_questions: int,
    ) -> None:
        self._client = client
        self._ring = ring
        self._clock = clock
        self._maximum_bytes = maximum_bytes
        self._maximum_questions = maximum_questions
        self._near = NearQuestions(maximum_questions, clock)
        self._answers = msgspec.msgpack.Decoder(StoredAnswer)
        self._entries = msgspec.msgpack.Decoder(_NearEntry)
        self._encoder = msgspec.msgpack.Encoder()

    async def names(self, tenant_id: str, contents: Sequence[bytes]) -> Sequence[str]:
        keys = await self._ring.keys_of(tenant_id)
        return [keys.digest(content).hex() for content in contents]

    async def find(self, tenant_id: str, name: str) -> StoredAnswer | None:
        keys = await self._ring.keys_of(tenant_id)
        with translated_errors():
            sealed = await self._client.execute_command("GET", answer_key(tenant_id, name))
        if sealed is None:
            return None
        try:
            plain = keys.open(_answer_place(name), sealed)
            if plain.startswith(_FORMAT):
                return self._answers.decode(plain[len(_FORMAT) :])
        except (SealBroken, msgspec.DecodeError):
            # Of a key that is gone, damaged, or another version's: as good as forgotten.
            return None
        return None

    async def keep(
        self, tenant_id: str, user_id: str, name: str, answer: StoredAnswer, seconds: float
    ) -> None:
        plain = _FORMAT + self._encoder.encode(answer)
        if len(plain) > self._maximum_bytes:
            return
        keys = await self._ring.keys_of(tenant_id)
        sealed = keys.seal(_answer_place(name), plain)
        milliseconds = max(1, int(seconds * 1000))
        await self._send(
            ("SET", answer_key(tenant_id, name), sealed, "PX", milliseconds),
            *_notes(tenant_id, user_id, f"exact:{name}"),
        )

    async def find_near(
        self, tenant_id: str, scope: str, vector: Sequence[float], min_similarity: float
    ) -> StoredAnswer | None:
        await self._catch_up(tenant_id, scope)
        known = self._near.of(tenant_id, scope)
        for name in known.nearest(vector, min_similarity, now=self._now(), most=_TRIES):
            answer = await self.find(tenant_id, name)
            if answer is not None:
                return answer
        return None

    async def keep_near(
        self,
        tenant_id: str,
        user_id: str,
        scope: str,
        vector: Sequence[float],
        name: str,
        seconds: float,
    ) -> None:
        keys = await self._ring.keys_of(tenant_id)
        entry = _NearEntry(name, self._now() + seconds, self._near.packed(vector))
        sealed = keys.seal(_near_place(scope), self._encoder.encode(entry))
        key = near_key(tenant_id, scope)
        await self._send(
            ("XADD", key, "MAXLEN", self._maximum_questions, "*", _FIELD, sealed),
            ("EXPIRE", key, LONGEST_SECONDS),
            *_notes(tenant_id, user_id, f"near:{scope}"),
        )

    async def keys_of_user(self, subject: Subject) -> AsyncGenerator[Sequence[str], None]:
        """Yield the keys that a user's calls have made, and the one that names them."""
        noted = _noted_key(subject.tenant_id, subject.user_id)
        with translated_errors():
            members = await self._client.execute_command("SMEMBERS", noted)
        kinds = (member.decode().partition(":") for member in members)
        yield [tenant_key(subject.tenant_id, FAMILY, kind, name) for kind, _, name in kinds]
        yield [noted]

    async def _catch_up(self, tenant_id: str, scope: str) -> None:
        """Read what was added to a scope since it was read last, and open it."""
        keys = await self._ring.keys_of(tenant_id)
        known = self._near.of(tenant_id, scope)
        with translated_errors():
            entries = await self._client.execute_command(
                *("XRANGE", near_key(tenant_id, scope), known.after, "+"),
                *("COUNT", self._maximum_questions),
            )
        for entry_id, fields in entries:
            try:
                plain = keys.open(_near_place(scope), fields[_FIELD])
                entry = self._entries.decode(plain)
            except (SealBroken, msgspec.DecodeError):
                continue
            known.add(entry_id.decode(), entry.name, entry.until, entry.vector)

    def _now(self) -> float:
        return self._clock.now().timestamp()

    async def _send(self, *commands: tuple[str | bytes | int, ...]) -> None:
        """Do commands on keys of one tenant, all in one exchange."""
        with translated_errors():
            async with self._client.pipeline(transaction=False) as pipeline:
                for command in commands:
                    _ = pipeline.execute_command(*command)
                await pipeline.execute()


def _notes(tenant_id: str, user_id: str, member: str) -> tuple[tuple[str | bytes | int, ...], ...]:
    """Return the commands that note a key as one that a user's call has made."""
    if not user_id:
        return ()
    noted = _noted_key(tenant_id, user_id)
    return (("SADD", noted, member), ("EXPIRE", noted, LONGEST_SECONDS))


def answer_key(tenant_id: str, name: str) -> str:
    """Return the key of an answer."""
    return tenant_key(tenant_id, FAMILY, "exact", name)


def near_key(tenant_id: str, scope: str) -> str:
    """Return the key of the questions of a scope."""
    return tenant_key(tenant_id, FAMILY, "near", scope)


def _noted_key(tenant_id: str, user_id: str) -> str:
    return tenant_key(tenant_id, FAMILY, "of", user_id)


def _answer_place(name: str) -> Place:
    return Place("redis:answers", "answer", name)


def _near_place(scope: str) -> Place:
    return Place("redis:answers", "question", scope)
