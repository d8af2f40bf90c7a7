"""The OpenAPI document: the framework's routes, the raw ones, and the words of the streams."""

from importlib.metadata import version
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from meshwright_gateway.http.raw_operations import RAW_OPERATIONS, STREAM_VOCABULARY
from meshwright_gateway.http.schemas.common import ProblemView
from meshwright_gateway.http.schemas.conversation import (
    ChatAnswer,
    ChatRequest,
    ChatWaiting,
    RegenerateRequest,
)
from meshwright_gateway.http.schemas.knowledge import IndexingProgress, UploadedDocument
from meshwright_gateway.http.schemas.openai import ChatCompletionRequest, OpenAiError
from meshwright_gateway.http.schemas.records import UsageRow
from meshwright_gateway.http.schemas.work import ExecuteRequest

_REF: Final = "#/components/schemas/{model}"
_RAW_MODELS: Final[tuple[type[BaseModel], ...]] = (
    ChatRequest,
    ChatAnswer,
    ChatWaiting,
    RegenerateRequest,
    ChatCompletionRequest,
    ExecuteRequest,
    UploadedDocument,
    IndexingProgress,
    UsageRow,
    ProblemView,
    OpenAiError,
)
_FRAMEWORK_ERRORS: Final = ("HTTPValidationError", "ValidationError")
_TAGS: Final = [
    {"name": "chat", "description": STREAM_VOCABULARY},
    {"name": "sessions", "description": "Conversations of the caller."},
    {"name": "knowledge", "description": "Documents, and finding passages in them."},
    {"name": "agents", "description": "Agents, and running them without a session."},
    {"name": "tasks", "description": "What agents do, as stored."},
    {"name": "tools", "description": "Tools, and calling them directly."},
    {"name": "models", "description": "Models that requests may name."},
    {"name": "records", "description": "Usage, how tasks ended, and audit."},
    {"name": "notifications", "description": "What happened for the caller."},
    {"name": "memories", "description": "What is remembered of the caller beyond a session."},
    {"name": "directory", "description": "The caller, the tenant, users and API keys."},
    {"name": "auth", "description": "Tokens for the gRPC services of the mesh."},
    {"name": "openai", "description": "For clients of OpenAI's API, with base URL …/v1."},
    {"name": "operations", "description": "Health, metrics, this document."},
]
_DESCRIPTION: Final = """\
Send an API key as `Authorization: Bearer mw_…` or as `X-API-Key: mw_…`.

Errors are `application/problem+json` (RFC 9457), and OpenAI's error object under `/v1`; decide by
`code`. Too many requests are answered 429, too much work at once 503, both with `Retry-After`;
answers to work carry `x-ratelimit-limit-requests`, `-remaining-requests` and `-reset-requests`, and
a request may call itself less important with `X-Priority: background` or `batch`. Every answer has
`x-request-id`; a request may bring its own. JSON bodies are at most 1 MiB and must have exactly the
fields that are described here. Lists are read on with `next_page_token`.
"""


def describe(framework: FastAPI) -> dict[str, object]:
    """Return the document of the whole API."""
    document: dict[str, Any] = get_openapi(
        title="Meshwright",
        version=version("meshwright-gateway"),
        description=_DESCRIPTION,
        routes=framework.routes,
        tags=_TAGS,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    components: dict[str, Any] = document.setdefault("components", {})
    schemas: dict[str, Any] = components.setdefault("schemas", {})
    _, definitions = models_json_schema(
        [(model, "serialization") for model in _RAW_MODELS], ref_template=_REF
    )
    schemas.update(definitions.get("$defs", {}))
    for name in _FRAMEWORK_ERRORS:
        schemas.pop(name, None)
    paths: dict[str, dict[str, Any]] = document["paths"]
    for path, operations in RAW_OPERATIONS.items():
        paths.setdefault(path, {}).update(operations)
    for path, operations in paths.items():
        for operation in operations.values():
            _finish(path, operation)
    document["paths"] = dict(sorted(paths.items()))
    components["securitySchemes"] = {
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key (`mw_…`), or a token from `/api/v1/auth/token`.",
        },
        "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    document["security"] = [{"bearer": []}, {"apiKey": []}]
    return document


def _finish(path: str, operation: dict[str, Any]) -> None:
    """Describe the errors of an operation; the framework's own description is not ours."""
    responses: dict[str, Any] = operation["responses"]
    responses.pop("422", None)
    if "default" in responses or operation.get("security") == []:
        return
    openai = path.startswith("/v1/")
    media_type = "application/json" if openai else "application/problem+json"
    model = "OpenAiError" if openai else "ProblemView"
    responses["default"] = {
        "description": "What went wrong.",
        "content": {media_type: {"schema": {"$ref": _REF.format(model=model)}}},
    }
