"""Every method of the mesh, called by one tenant with the ids of another."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import grpc
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf import json_format, message_factory
from google.protobuf.message import Message

from meshwright_common.context import MESH_INTERNAL
from meshwright_common.identity.keys import load_keys
from meshwright_common.ids import new_id
from meshwright_session.domain.roles import permissions_of
from tests.platform_process import Platform
from tests.security.grpc_doors import Channels, Door, Metadata, descriptor_of
from tests.security.request_samples import requests
from tests.security.sample_values import SAMPLES, UPLOADED

CALL_SECONDS: Final = 20.0
WATCH_SECONDS: Final = 0.5
"""How long a stream is read that tells of what happens later."""
WATCHES: Final = ("Watch", "Subscribe")
PASSING: Final = re.compile(
    # A count of nothing is not written at all.
    r',? ?"(?:removed|remaining)_?[Cc]ount": ?"?\d+"?'
    r"|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|mw_[\w-]+|whsec_[\w+/=]+|eyJ[\w.-]+|\d+",
)
"""New ids, keys, tokens, counts and times: they differ from call to call."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: a user of a tenant, and its services where a method is for services alone."""

    tenant_id: str
    user_id: str
    key: Ed25519PrivateKey
    permissions: tuple[str, ...]

    def metadata(self, door: Door) -> Metadata:
        """Return the metadata of a call of `door` in the name of the user, or of a service."""
        internal = door.permission == MESH_INTERNAL
        now = int(time.time())
        claims = {
            "iss": "gateway",
            "aud": "meshwright",
            "sub": "gateway" if internal else self.user_id,
            "tid": self.tenant_id,
            "kind": "service" if internal else "user",
            "perms": [MESH_INTERNAL] if internal else list(self.permissions),
            "roles": [] if internal else ["owner"],
            "iat": now,
            "exp": now + 60,
            "jti": new_id(),
        }
        headers = {"kid": "gateway", "typ": "mesh+jwt"}
        token = jwt.encode(claims, self.key, "EdDSA", headers=headers)
        return [("authorization", f"Bearer {token}")]


def caller(platform: Platform, tenant_id: str, user_id: str) -> Caller:
    """Return an owner of a tenant, with every permission that a user can have."""
    key = load_keys(platform.data / "keys", ["gateway"]).private_key("gateway")
    return Caller(tenant_id, user_id, key, tuple(sorted(permissions_of(("owner",)))))


@dataclass(frozen=True, slots=True)
class Answer:
    """All that a call told: how it ended, and the messages before, as text."""

    code: grpc.StatusCode
    details: str
    said: tuple[str, ...]

    def without(self, *ids: str) -> tuple[str, str, str]:
        """Return its end, its last message and error, without those ids and what passes."""
        # Of a stream: how a text is cut into messages differs from call to call.
        texts = [self.details, self.said[-1] if self.said else ""]
        for one in ids:
            texts = [text.replace(one, "ID") for text in texts]
        details, last = (PASSING.sub("", text) for text in texts)
        return self.code.name, details, last


def ask(channels: Channels, door: Door, request: Message, as_caller: Caller) -> Answer:
    """Call a method and return all that it told, of a stream the beginning."""
    channel = channels[door.service]
    make = getattr(
        channel,
        ("stream" if door.streams_in else "unary") + ("_stream" if door.streams_out else "_unary"),
    )
    output = message_factory.GetMessageClass(descriptor_of(door.path).output_type)
    method = make(
        door.path, request_serializer=_serialized, response_deserializer=output.FromString
    )
    watches = door.path.rpartition("/")[2].startswith(WATCHES)
    seconds = WATCH_SECONDS if watches else CALL_SECONDS
    rest = UPLOADED if door.path.endswith("/UploadDocument") else ()
    argument = iter([request, *rest]) if door.streams_in else request
    said: list[str] = []
    try:
        answer = method(argument, metadata=as_caller.metadata(door), timeout=seconds)
        said += map(_text, answer if door.streams_out else [answer])
    except grpc.RpcError as error:
        call: Any = error
        # Who notices first that the time is over, and says so in what words, is chance.
        is_late = call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        return Answer(call.code(), "" if is_late else call.details() or "", tuple(said))
    return Answer(grpc.StatusCode.OK, "", tuple(said))


def _text(message: Message) -> str:
    return json.dumps(json_format.MessageToDict(message), sort_keys=True)


def _serialized(message: Message) -> bytes:
    return message.SerializeToString()


def tried(door: Door, ids: Mapping[str, str]) -> Iterator[Message]:
    """Yield the requests of a method with `ids` in them. Raises: NoRow."""
    samples = SAMPLES | {"EraseStoredRequest.service": door.service}
    yield from requests(door.path, descriptor_of(door.path).input_type, ids, samples)


def absent(ids: Mapping[str, str]) -> dict[str, str]:
    """Return the same rows with ids of nothing, as long as those where there is a limit."""
    return {name: new_id()[-max(len(one), 32) :] for name, one in ids.items()}
