"""Every RPC and every route with the ids of another tenant: nothing is told, nothing changes.

The requests are made from the descriptors and from the OpenAPI document. A method or a route with
an id that no row of the matrix knows fails, and so does one whose owner gets no answer either: then
the matrix would prove nothing of it (R-21, S-01, S-02).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import grpc
import httpx
import pytest
from google.protobuf import descriptor_pb2

from meshwright.types.v1 import options_pb2
from tests.asking import eventually
from tests.platform_process import COMMAND, Platform, running_platform
from tests.security.forgetful_platform import COUNT_FILE, forgetful
from tests.security.grpc_doors import Channels, Door, descriptor_of, doors, plain_channels
from tests.security.route_matrix import comparable, route_requests, send
from tests.security.rows import open_row_level_security, rows_of_tenant
from tests.security.sample_values import NOT_TRIED, UNANSWERED
from tests.security.tenant_matrix import Caller, absent, ask, caller, tried
from tests.security.things import CANARY, furnish, joined_instance
from tests.tenants import NewTenant, new_tenant

DOORS: Final = [
    door
    for door in doors()
    if not descriptor_of(door.path).GetOptions().Extensions[options_pb2.not_yet_served]
]
"""Every method that is served."""
LAST: Final = ("Archive", "Cancel", "Forget", "Remove", "Revoke", "Delete", "EraseU", "Erase")
"""Methods that take away what the others need, those that take most at the end."""
METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
"""In this order: what a caller wrote itself, with whatever ids, is read in its lists later."""
READS: Final = 3
"""How often a read is tried again before the difference of two is believed."""
FORGOTTEN_STATEMENTS: Final = 60
"""Statements with a check, at least, that the calls of the matrix need."""

Rows: TypeAlias = dict[str, tuple[int, str]]
"""Number of rows and their digest, by table."""


@dataclass(frozen=True, slots=True)
class Sides:
    """Two tenants of one platform: one has things, the other one asks for them."""

    platform: Platform
    victim: NewTenant
    victim_ids: dict[str, str]
    owner: Caller
    stranger: NewTenant
    asking: Caller

    @property
    def secrets(self) -> list[str]:
        """What the stranger must never be told."""
        own = [self.victim.tenant_id, self.victim.user_id, CANARY]
        return own + [one for one in self.victim_ids.values() if len(one) >= 8]


def two_tenants(platform: Platform, *, erases: bool = True) -> Sides:
    victim, stranger = new_tenant(platform), new_tenant(platform)
    with platform.client(victim.api_key) as client:
        owned = furnish(client, victim.api_key, erases=erases)
        key = client.post("/api/v1/api-keys", json={"label": CANARY}).json()["api_key"]
        user = client.post("/api/v1/users", json={"name": CANARY}).json()
        if erases:
            # It works beside the calls until its end.
            erasure = f"/api/v1/erasures/{owned.ids['erasure_id']}"
            eventually(lambda: client.get(erasure).json()["state"] == "completed")
    ids = owned.ids | {
        "api_key_id": key["api_key_id"],
        "user_id": user["user_id"],
        "tenant_id": victim.tenant_id,
        "agent_instance_id": joined_instance(platform, victim.api_key),
    }
    ids["after_id"] = ids["last_event_id"] = ids["notification_id"]
    ids["parent_session_id"] = ids["session_id"]
    return Sides(
        platform,
        victim,
        ids,
        caller(platform, victim.tenant_id, victim.user_id),
        stranger,
        caller(platform, stranger.tenant_id, stranger.user_id),
    )


def in_order(found: list[Door]) -> list[Door]:
    """Return what reads, then what writes, then what takes away."""

    def rank(door: Door) -> tuple[int, bool]:
        name = door.path.rpartition("/")[2]
        takes = next((place for place, one in enumerate(LAST) if name.startswith(one)), -1)
        return takes, not reads(door)

    return sorted(found, key=rank)


def reads(door: Door) -> bool:
    """Return whether the method declares that it changes nothing."""
    options = descriptor_of(door.path).GetOptions()
    return options.idempotency_level == descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS


def rpc_leaks(sides: Sides, channels: Channels) -> list[str]:
    """Return what any method told the stranger of the victim, in words for a failing test.

    What the stranger wrote itself, with whatever ids, it may be told again.
    """
    leaks, asked = [], ""
    nothing = absent(sides.victim_ids)
    for door in in_order(DOORS):
        if door.path in NOT_TRIED:
            continue
        pairs = zip(tried(door, sides.victim_ids), tried(door, nothing), strict=True)
        for of_victim, of_nothing in pairs:
            foreign = ask(channels, door, of_victim, sides.asking)
            missing = ask(channels, door, of_nothing, sides.asking)
            ids = (*sides.victim_ids.values(), *nothing.values())
            names_a_thing = of_victim != of_nothing
            if names_a_thing and foreign.without(*ids) != missing.without(*ids):
                leaks.append(f"{door.path} at {door.service}: {foreign} and not {missing}")
            asked += str(of_victim)
            leaks += [
                f"{door.path} at {door.service} told {secret}"
                for secret in sides.secrets
                if secret in str(foreign) and secret not in asked
            ]
    return leaks


def route_leaks(sides: Sides) -> list[str]:
    """Return what any route told the stranger of the victim, in words for a failing test."""
    leaks, asked = [], ""
    nothing = absent(sides.victim_ids)
    ids = (*sides.victim_ids.values(), *nothing.values())
    with sides.platform.client(sides.stranger.api_key) as client:
        pairs = zip(
            list(route_requests(client, sides.victim_ids)),
            list(route_requests(client, nothing)),
            strict=True,
        )
        for (operation, of_victim), (_, of_nothing) in sorted(
            pairs, key=lambda pair: METHODS.index(pair[0][0].method)
        ):
            if str(operation) in NOT_TRIED:
                continue
            foreign, missing = (
                send(client, operation, of_victim),
                send(client, operation, of_nothing),
            )
            for _ in range(READS if operation.method == "GET" else 0):
                if comparable(foreign, *ids) == comparable(missing, *ids):
                    break
                # What is read can change in between: a checkpoint is made, a first byte is late.
                foreign = send(client, operation, of_victim)
                missing = send(client, operation, of_nothing)
            if comparable(foreign, *ids) != comparable(missing, *ids):
                leaks.append(f"{operation}: {foreign} and not {missing}")
            asked += str(of_victim)
            leaks += [
                f"{operation} told {secret}"
                for secret in sides.secrets
                if secret in foreign[1] and secret not in asked
            ]
    return leaks


@pytest.fixture(scope="module")
def channels(platform: Platform) -> Iterator[Channels]:
    with plain_channels(platform) as opened:
        yield opened


@pytest.fixture(scope="module")
def sides(platform: Platform) -> Sides:
    return two_tenants(platform)


@pytest.mark.promise("TENANT-05")
def test_no_method_tells_or_changes_anything_of_another_tenant(
    sides: Sides, channels: Channels
) -> None:
    before = asyncio.run(rows_of_tenant(sides.platform, sides.victim.tenant_id))
    assert rpc_leaks(sides, channels) == []
    assert asyncio.run(rows_of_tenant(sides.platform, sides.victim.tenant_id)) == before


@pytest.mark.promise("TENANT-05")
def test_no_route_tells_or_changes_anything_of_another_tenant(platform: Platform) -> None:
    sides = two_tenants(platform)
    before = asyncio.run(rows_of_tenant(platform, sides.victim.tenant_id))
    assert route_leaks(sides) == []
    assert asyncio.run(rows_of_tenant(platform, sides.victim.tenant_id)) == before


@pytest.mark.promise("TENANT-05")
def test_the_owner_gets_an_answer_to_each_request_of_the_matrix(
    platform: Platform, channels: Channels
) -> None:
    sides = two_tenants(platform)
    wrong = []
    for door in in_order(DOORS):
        if door.path in NOT_TRIED or door.path in UNANSWERED:
            continue
        for request in tried(door, sides.victim_ids):
            answer = ask(channels, door, request, sides.owner)
            late = answer.code is grpc.StatusCode.DEADLINE_EXCEEDED and door.streams_out
            if answer.code is not grpc.StatusCode.OK and not late:
                wrong.append(f"{door.path} at {door.service}: {answer}")
    assert wrong == []


@pytest.mark.promise("TENANT-05")
def test_the_owner_gets_an_answer_on_each_route_of_the_matrix(platform: Platform) -> None:
    sides = two_tenants(platform)
    wrong = []
    with platform.client(sides.victim.api_key) as client:
        for operation, request in sorted(
            route_requests(client, sides.victim_ids),
            key=lambda pair: METHODS.index(pair[0].method),
        ):
            if str(operation) in NOT_TRIED or str(operation) in UNANSWERED:
                continue
            status, text = send(client, operation, request)
            if status >= httpx.codes.BAD_REQUEST:
                wrong.append(f"{operation}: {status} {text}")
    assert wrong == []


@pytest.fixture
def forgetful_platform(
    tmp_path_factory: pytest.TempPathFactory, provider_environment: dict[str, str]
) -> Iterator[Platform]:
    """A platform whose statements have lost their checks of tenants and users.

    For one test: an erasure that a stranger began goes on for ever, as it finds other things again
    and again, and without any isolation it would leave nobody anything to be told.
    """
    folder = tmp_path_factory.mktemp("forgetful")
    counted = {COUNT_FILE: str(folder / "forgotten")}
    command = (*COMMAND[:2], "tests.security.forgetful_platform")
    with running_platform(
        folder / "data", environment=provider_environment | counted, command=command
    ) as running:
        yield running


@pytest.mark.promise("TENANT-06")
@pytest.mark.timeout(300)
def test_without_the_checks_of_the_application_there_is_still_no_leak(
    forgetful_platform: Platform,
) -> None:
    # An erasure that has forgotten whose it is would take the whole tenant with it.
    for_methods, for_routes = (two_tenants(forgetful_platform, erases=False) for _ in range(2))
    victims = [sides.victim.tenant_id for sides in (for_methods, for_routes)]
    before = [asyncio.run(rows_of_tenant(forgetful_platform, victim)) for victim in victims]
    with plain_channels(forgetful_platform) as channels:
        assert rpc_leaks(for_methods, channels) == []
    assert route_leaks(for_routes) == []
    after = [asyncio.run(rows_of_tenant(forgetful_platform, victim)) for victim in victims]
    assert [changed(*pair) for pair in zip(before, after, strict=True)] == [{}, {}]
    forgotten = Path(forgetful_platform.environment[COUNT_FILE])
    assert int(forgotten.read_text()) >= FORGOTTEN_STATEMENTS


def changed(before: Rows, after: Rows) -> dict[str, object]:
    """Return the tables whose rows differ."""
    tables = sorted(before.keys() | after.keys())
    return {
        table: (before.get(table), after.get(table))
        for table in tables
        if before.get(table) != after.get(table)
    }


@pytest.mark.promise("TENANT-06")
@pytest.mark.timeout(300)
def test_without_row_level_security_either_the_matrix_finds_leaks(
    forgetful_platform: Platform,
) -> None:
    """What the test above would say if the mechanism were not there."""
    sides = two_tenants(forgetful_platform, erases=False)
    asyncio.run(open_row_level_security(forgetful_platform))
    with plain_channels(forgetful_platform) as channels:
        leaks = rpc_leaks(sides, channels)
    found = {leak.partition(" ")[0].rpartition("/")[2] for leak in leaks}
    # What is sealed stays closed all the same: tenants have keys of their own.
    assert "GetDocument" in found
    assert len(found) >= 5


def test_a_forgetful_statement_has_lost_its_checks() -> None:
    statement = "SELECT * FROM t WHERE t.tenant_id = $1 AND session_id = $2\n   AND user_id = $3"
    assert forgetful(statement) == (
        "SELECT * FROM t WHERE (t.tenant_id = $1 OR true) AND session_id = $2\n"
        "   AND (user_id = $3 OR true)"
    )
