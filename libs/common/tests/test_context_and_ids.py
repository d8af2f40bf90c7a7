"""Errors, call context, ids and clocks: the four modules that domain code may use."""

import asyncio
import time
import uuid

import pytest

from meshwright_common import context
from meshwright_common.clock import ManualClock, SystemClock
from meshwright_common.context import MESH_INTERNAL, CallContext, Principal
from meshwright_common.errors import (
    CLASS_BY_CODE,
    FieldViolation,
    InvalidArgument,
    NotFound,
    ServiceError,
    Unauthenticated,
    invalid,
)
from meshwright_common.ids import new_id, parse_id

TENANT = new_id()
CALLER = Principal(TENANT, "anna", "user", frozenset({"kb:read"}))


class PageNotFound(NotFound):
    reason = "DOCUMENT_NOT_FOUND"
    text = "no page {page} in {name}"


def test_error_text_is_made_of_its_metadata() -> None:
    error = PageNotFound(page="3", name="a.pdf")
    assert "no page 3 in a.pdf" == error.message == str(error)
    assert {"page": "3", "name": "a.pdf"} == error.metadata


def test_given_text_wins_and_a_missing_one_is_the_reason() -> None:
    assert "told" == PageNotFound("told").message
    assert "not found" == NotFound().message


def test_invalid_names_the_field() -> None:
    error = invalid("top_k", "must be 1 to 100")
    assert (FieldViolation("top_k", "must be 1 to 100"),) == error.field_violations
    assert "top_k: must be 1 to 100" == error.message


def test_every_canonical_code_has_one_class() -> None:
    assert 15 == len(CLASS_BY_CODE)
    assert all(issubclass(error, ServiceError) for error in CLASS_BY_CODE.values())


def test_nobody_is_bound_outside_a_call() -> None:
    assert CallContext() == context.current()
    assert context.remaining_seconds() is None
    with pytest.raises(Unauthenticated):
        context.principal()


def test_bound_context_ends_with_its_block() -> None:
    with context.bind(CallContext(CALLER, time.monotonic() + 5)):
        assert CALLER is context.principal()
        remaining = context.remaining_seconds()
        assert remaining is not None
        assert 4 < remaining <= 5
    assert CallContext() == context.current()


@pytest.mark.asyncio
async def test_tasks_of_a_call_see_its_context() -> None:
    async def who() -> Principal:
        return context.principal()

    with context.bind(CallContext(CALLER)):
        async with asyncio.TaskGroup() as group:
            inside = group.create_task(who())
    assert CALLER is inside.result()


def test_service_context_has_explicit_rights_and_keeps_the_ids() -> None:
    outer = CallContext(CALLER, None, "request", "correlation", "trace")
    with context.bind(outer):
        made = context.service_context("rag", TENANT, {MESH_INTERNAL}, timeout_seconds=None)
    expected = Principal(TENANT, "rag", "service", frozenset({MESH_INTERNAL}))
    assert CallContext(expected, None, "request", "correlation", "trace") == made


def test_service_context_outside_a_call_makes_ids() -> None:
    made = context.service_context("rag", TENANT, (), timeout_seconds=3)
    assert made.request_id
    assert made.request_id == made.correlation_id
    assert 55 == len(made.traceparent)
    assert made.deadline is not None


def test_acting_as_a_service_keeps_tenant_and_deadline() -> None:
    with context.bind(CallContext(CALLER, 7.0, "request")):
        own = context.as_service("chat", MESH_INTERNAL)
    assert Principal(TENANT, "chat", "service", frozenset({MESH_INTERNAL})) == own.principal
    assert (7.0, "request") == (own.deadline, own.request_id)


def test_permission_is_held_exactly_or_not_at_all() -> None:
    broad = Principal(TENANT, "x", "user", frozenset({"kb", "kb:*", "*", "kb:read:all"}))
    assert not broad.has("kb:read")
    assert CALLER.has("kb:read")


def test_ids_are_uuid_version_7_and_sort_by_time() -> None:
    before = time.time_ns() // 1_000_000
    ids = [new_id() for _ in range(5000)]
    parsed = [uuid.UUID(value) for value in ids]
    assert {(7, uuid.RFC_4122)} == {(value.version, value.variant) for value in parsed}
    assert sorted(ids) == ids
    assert 5000 == len(set(ids))
    assert [str(value) for value in parsed] == ids
    assert before <= parsed[0].int >> 80 <= before + 5000


def test_id_is_read_in_any_case_and_no_other_form() -> None:
    value = str(uuid.uuid4())
    assert value == parse_id(value.upper(), "document_id")
    wrong = ["", "x", value[:-1], value.replace("-", ""), f"{{{value}}}", f"{value}\n", value + "0"]
    for text in wrong:
        with pytest.raises(InvalidArgument) as refused:
            parse_id(text, "document_id")
        assert "document_id" == refused.value.field_violations[0].field


def test_clocks_agree_on_what_time_is() -> None:
    system, manual = SystemClock(), ManualClock()
    assert system.now().tzinfo is not None
    start, tick = manual.now(), manual.monotonic()
    manual.advance(2.5)
    assert 2.5 == (manual.now() - start).total_seconds() == manual.monotonic() - tick
    with pytest.raises(ValueError, match="back"):
        manual.advance(-1)
