"""Load stays within its bounds and on this machine."""

import msgspec
import pytest

from bench.load import Address, Ask, Kind, Load, LoadError, loopback_address


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "http://10.0.0.1:80",
        "https://127.0.0.1",
        "http://127.0.0.1.example.com",
        "http://0.0.0.0:80",
        "127.0.0.1:80",
    ],
)
def test_other_machines_are_refused(url: str) -> None:
    with pytest.raises(LoadError, match="loopback"):
        loopback_address(url)


def test_loopback_is_accepted() -> None:
    assert loopback_address("http://localhost:81/v1") == Address("127.0.0.1", 81)
    assert loopback_address("http://[::1]:82") == Address("::1", 82)


def test_unbounded_load_is_refused() -> None:
    with pytest.raises(LoadError, match="seconds"):
        Load(seconds=10_000)
    with pytest.raises(LoadError, match="connections"):
        Load(connections=0)
    with pytest.raises(LoadError, match="rate"):
        Load(rate=0)


def test_turn_is_asked_as_the_platform_wants_it() -> None:
    ask = Ask(kind=Kind.TURN_STREAM, prompt="sim-n1", agent="chat", api_key="mw_x")

    head, _, body = ask.request(Address("127.0.0.1", 8080)).partition(b"\r\n\r\n")

    assert head.startswith(b"POST /api/v1/chat HTTP/1.1\r\nhost: 127.0.0.1:8080\r\n")
    assert b"authorization: Bearer mw_x" in head
    assert msgspec.json.decode(body) == {"message": "sim-n1", "agent": "chat"}
