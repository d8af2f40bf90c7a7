"""Searching the documents for a question, and what to do when that is not possible."""

from typing import Final

import structlog

from meshwright_common.errors import (
    DeadlineExceeded,
    NotFound,
    PermissionDenied,
    ServiceError,
    Unavailable,
)
from meshwright_orchestrator.domain.journal import Recalled
from meshwright_orchestrator.domain.models import Task
from meshwright_orchestrator.domain.ports import Retriever

logger = structlog.get_logger(__name__)

ALL_PARTS: Final = ("vector", "text")
"""What is missing when no part of the search answers."""


async def search(
    retriever: Retriever, task: Task, query: str, top_k: int
) -> Recalled | ServiceError:
    """Return the passages for `query`, or the error that the task fails with.

    Without a right to read, without a default knowledge base and while the search is away the
    task goes on without passages. Errors are returned: a TaskGroup would wrap what a child raises.
    """
    bases = task.spec.knowledge_base_ids
    try:
        return await retriever.search(query, knowledge_base_ids=bases, top_k=top_k)
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
