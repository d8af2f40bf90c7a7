"""Peers found by name."""

from __future__ import annotations

import pytest

from meshwright_common.registry.dns import DnsDiscovery, name_in
from meshwright_common.registry.ports import Endpoint


@pytest.mark.asyncio
async def test_every_address_of_a_name_is_an_instance() -> None:
    watching = DnsDiscovery("127.0.0.1", 50051).watch("rag")
    assert (Endpoint("127.0.0.1:50051"),) == await anext(watching)
    await watching.aclose()


@pytest.mark.asyncio
async def test_a_name_that_fails_for_a_while_is_looked_up_again() -> None:
    answers = iter([OSError("no such name"), "::1", "127.0.0.1"])

    class Resolver(DnsDiscovery):
        async def _look(self) -> tuple[Endpoint, ...]:
            answer = next(answers)
            if isinstance(answer, OSError):
                raise answer
            return (Endpoint(f"{answer}:1"),)

    watching = Resolver("rag", 1, look_seconds=0).watch("rag")
    assert ["::1:1", "127.0.0.1:1"] == [(await anext(watching))[0].address for _ in range(2)]
    await watching.aclose()


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("dns:///rag:50051", ("rag", 50051)),
        ("rag.mesh:50051", ("rag.mesh", 50051)),
        ("dns:[::1]:50051", ("::1", 50051)),
        ("127.0.0.1:50051", ("127.0.0.1", 50051)),
        ("dns://10.0.0.1/rag:50051", None),
        ("ipv4:127.0.0.1:50051", None),
        ("unix:/run/rag.sock", None),
        ("rag", None),
    ],
)
def test_only_targets_of_names_are_looked_up(target: str, expected: tuple[str, int] | None) -> None:
    assert expected == name_in(target)
