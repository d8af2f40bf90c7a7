"""Searching documents and memory for a question, and what to do when that is not possible."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Final

import structlog

from meshwright_common.errors import (
    DeadlineExceeded,
    NotFound,
    PermissionDenied,
    ServiceError,
    Unavailable,
)
from meshwright_orchestrator.domain.decider import Recall
from meshwright_orchestrator.domain.journal import Recalled, Remembered
from meshwright_orchestrator.domain.memory_ports import Memory
from meshwright_orchestrator.domain.models import Task
from meshwright_orchestrator.domain.ports import Retriever

logger = structlog.get_logger(__name__)

MOST_SUMMARIES: Final = 3
"""Of the conversation itself, the newest."""
ALL_PARTS: Final = ("vector", "text")
"""What is missing when no part of the search answers."""


async def search(
    retriever: Retriever, task: Task, wanted: Recall, bases: Sequence[str]
) -> Recalled | ServiceError:
    """Return the passages for a question, or the error that the task fails with.

    Without a right to read, without a default knowledge base and while the search is away the
    task goes on without passages. Errors are returned: a TaskGroup would wrap what a child raises.
    """
    try:
        return await retriever.search(wanted.query, knowledge_base_ids=bases, top_k=wanted.top_k)
    except NotFound as error:
        if bases or error.reason != "KNOWLEDGE_BASE_NOT_FOUND":
            return error
        return Recalled()
    except PermissionDenied:
        return Recalled()
    except (Unavailable, DeadlineExceeded) as error:
        logger.warning("recall_away", task_id=task.task_id, reason=error.reason)
        return Recalled(degraded=ALL_PARTS)
    except ServiceError as error:
        return error


async def remember(memory: Memory, task: Task, wanted: Recall) -> tuple[Remembered, ...]:
    """Return what is remembered of the owner: of this conversation first, oldest first, then what
    fits the question, best first. Nothing when memory cannot be asked, or not in time.
    """
    if not wanted.memories:
        return ()
    async with asyncio.TaskGroup() as group:
        fitting = group.create_task(
            _tried(task, memory.recall(wanted.query, top_k=wanted.memories))
        )
        earlier = (
            group.create_task(
                _tried(task, memory.summaries(task.spec.session_id, most=MOST_SUMMARIES))
            )
            if wanted.summaries
            else None
        )
    found = {one.memory_id: one for one in earlier.result()} if earlier else {}
    for one in fitting.result():
        found.setdefault(one.memory_id, one)
    return tuple(found.values())


async def _tried(
    task: Task, asking: Coroutine[Any, Any, Sequence[Remembered]]
) -> Sequence[Remembered]:
    try:
        return await asking
    except PermissionDenied:
        return ()
    except ServiceError as error:
        logger.warning("memory_away", task_id=task.task_id, reason=error.reason)
        return ()
