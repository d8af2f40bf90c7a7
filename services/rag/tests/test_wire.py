"""What requests may hold."""

import base64

import pytest
from google.protobuf.struct_pb2 import Struct

from meshwright.types.v1.page_pb2 import PageRequest
from meshwright_common.errors import InvalidArgument
from meshwright_rag import wire


def struct(**values: object) -> Struct:
    message = Struct()
    message.update(values)  # type: ignore[arg-type]
    return message


def test_whole_numbers_of_metadata_stay_whole() -> None:
    given = struct(year=2024, share=0.5, nested={"list": [1, "a", None, True]}, huge=1e300)
    assert wire.metadata(given, "metadata") == {
        "year": 2024,
        "share": 0.5,
        "nested": {"list": [1, "a", None, True]},
        "huge": 1e300,
    }


@pytest.mark.parametrize(
    "given",
    [struct(a=float("nan")), struct(a=float("inf")), struct(a="\0"), struct(a="x" * 17_000)],
    ids=["nan", "infinity", "zero character", "too long"],
)
def test_metadata_that_cannot_be_stored_is_refused(given: Struct) -> None:
    with pytest.raises(InvalidArgument) as error:
        wire.metadata(given, "metadata")
    assert error.value.field_violations[0].field == "metadata"


@pytest.mark.parametrize("value", ["x" * 129, "a\0b", "a\nb"])
def test_a_request_id_is_short_and_printable(value: str) -> None:
    with pytest.raises(InvalidArgument):
        wire.request_id(value)


def test_a_page_token_leads_to_the_next_page() -> None:
    token = wire.page_token("last", "tenant", "documents")
    assert wire.page_of(PageRequest(page_token=token), "tenant", "documents") == (50, "last")


@pytest.mark.parametrize(
    "token",
    [
        wire.page_token("last", "another tenant", "documents"),
        wire.page_token("a\0b", "tenant", "documents"),
        base64.urlsafe_b64encode(b"short").decode(),
        "no base64!",
        "\N{SNOWMAN}",
    ],
)
def test_a_token_of_another_list_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        wire.page_of(PageRequest(page_token=token), "tenant", "documents")
    assert error.value.field_violations[0].field == "page.page_token"


@pytest.mark.parametrize("size", [-1, 201])
def test_a_page_has_1_to_200_rows(size: int) -> None:
    with pytest.raises(InvalidArgument):
        wire.page_of(PageRequest(page_size=size), "tenant")
