"""Methods that are declared but not yet served: a list that may only get shorter."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import meshwright
from meshwright.types.v1 import options_pb2

FROZEN = Path(__file__).with_name("unserved_methods.txt")


def test_no_method_is_unserved_that_is_not_on_the_frozen_list() -> None:
    """Whoever calls a method today can call it tomorrow, and a new method comes with its service:
    unserved_methods.txt is never added to."""
    assert sorted(declared_unserved() - frozen()) == []


def test_served_method_is_taken_off_the_frozen_list() -> None:
    """A name left on the list would let the method fall back to unserved unseen."""
    assert sorted(frozen() - declared_unserved()) == []


def declared_unserved() -> set[str]:
    """Return the full names of the methods that carry `not_yet_served`."""
    names: set[str] = set()
    for module in pkgutil.walk_packages(meshwright.__path__, "meshwright."):
        if module.name.endswith("_pb2"):
            for service in importlib.import_module(
                module.name
            ).DESCRIPTOR.services_by_name.values():
                names.update(
                    method.full_name
                    for method in service.methods
                    if method.GetOptions().Extensions[options_pb2.not_yet_served]
                )
    return names


def frozen() -> set[str]:
    """Return the names on the list; lines with "#" are for people."""
    lines = FROZEN.read_text(encoding="utf-8").splitlines()
    return {line for line in lines if line and not line.startswith("#")}
