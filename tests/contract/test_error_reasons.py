"""Every reason an error of ours can carry is declared, with the code it is declared for."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import meshwright_chat
import meshwright_common
import meshwright_gateway
import meshwright_model_router
import meshwright_orchestrator
import meshwright_rag
import meshwright_session
import meshwright_tool_exec
from meshwright.errors.v1 import error_reason_pb2
from meshwright_common.errors import ServiceError

PACKAGES = (
    meshwright_chat,
    meshwright_common,
    meshwright_gateway,
    meshwright_model_router,
    meshwright_orchestrator,
    meshwright_rag,
    meshwright_session,
    meshwright_tool_exec,
)
PROTO = Path(__file__).parents[2] / "protos/meshwright/errors/v1/error_reason.proto"
DECLARED_CODE = re.compile(r"//\s+([A-Z_]+) · .*\n(?:\s+//.*\n)*\s+ERROR_REASON_(\w+) =")


def error_classes() -> list[type[ServiceError]]:
    """Every subclass of ServiceError that any package of ours defines."""
    for package in PACKAGES:
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    return sorted(_below(ServiceError), key=lambda found: (found.__module__, found.__name__))


def _below(parent: type[ServiceError]) -> Iterator[type[ServiceError]]:
    for child in parent.__subclasses__():
        # A class without a code is mixed into one that has it.
        is_mixin = child.code == ServiceError.code and bool(child.__subclasses__())
        if child.__module__.startswith("meshwright") and not is_mixin:
            yield child
        yield from _below(child)


@pytest.fixture(scope="module")
def declared() -> dict[str, str]:
    """Reason to gRPC code, as the proto's comments say it."""
    return {reason: code for code, reason in DECLARED_CODE.findall(PROTO.read_text("utf-8"))}


def test_every_declared_reason_says_its_code(declared: dict[str, str]) -> None:
    values = error_reason_pb2.ErrorReason.DESCRIPTOR.values
    names = {value.name.removeprefix("ERROR_REASON_") for value in values}
    assert names - {"UNSPECIFIED"} == set(declared)


@pytest.mark.promise("ER-01")
def test_every_error_class_has_a_declared_reason_of_its_own_code(
    declared: dict[str, str],
) -> None:
    wrong = [
        f"{found.__module__}.{found.__name__}: {found.reason} with {found.code}, declared "
        f"{declared.get(found.reason, 'nowhere')}"
        for found in error_classes()
        if declared.get(found.reason) != found.code
    ]
    assert [] == wrong
