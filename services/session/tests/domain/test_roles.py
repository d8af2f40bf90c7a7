"""The table of roles against what the protos declare."""

import pytest

from meshwright_common.context import MESH_INTERNAL
from meshwright_common.identity.permissions import required_permissions
from meshwright_session.domain.roles import PERMISSIONS_BY_ROLE, permissions_of


def test_owner_holds_every_permission_that_any_method_declares() -> None:
    declared = set(required_permissions().values()) - {MESH_INTERNAL, "none"}
    assert declared - permissions_of(["owner"]) == set()


@pytest.mark.parametrize("role", PERMISSIONS_BY_ROLE)
def test_no_role_holds_the_permission_of_services(role: str) -> None:
    assert MESH_INTERNAL not in permissions_of([role])


@pytest.mark.parametrize("role", sorted(PERMISSIONS_BY_ROLE.keys() - {"owner"}))
def test_owner_holds_more_than_anybody_else(role: str) -> None:
    assert permissions_of([role]) < permissions_of(["owner"])


def test_viewer_changes_nothing() -> None:
    assert {name.partition(":")[2] for name in permissions_of(["viewer"])} == {"read"}


def test_role_of_a_later_version_holds_nothing() -> None:
    assert permissions_of(["owner_of_everything"]) == frozenset()
