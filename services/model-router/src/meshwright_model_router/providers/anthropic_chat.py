"""Anthropic's Messages API."""

from collections.abc import AsyncGenerator
from typing import Final

from meshwright_model_router.domain.conversation import Prompt
from meshwright_model_router.domain.output import ProviderOutput
from meshwright_model_router.providers.anthropic_events import MessageAssembly
from meshwright_model_router.providers.anthropic_request import encode_request
from meshwright_model_router.providers.endpoint import Endpoint
from meshwright_model_router.providers.http import HttpClient
from meshwright_model_router.providers.streaming import stream_answer
from meshwright_model_router.providers.tool_names import ToolNames

PATH: Final = "messages"
ANTHROPIC_VERSION: Final = "2023-06-01"
"""Version of the API, sent with every request; its newest, whatever the model."""


class AnthropicChat:
    """ChatProvider over one endpoint."""

    def __init__(self, client: HttpClient, endpoint: Endpoint) -> None:
        self._client = client
        self._endpoint = endpoint

    def stream(
        self, model: str, prompt: Prompt, *, seconds_left: float | None
    ) -> AsyncGenerator[ProviderOutput, None]:
        endpoint = self._endpoint
        names = ToolNames(prompt.tools)
        request = encode_request(endpoint.anthropic, model, prompt, names)
        return stream_answer(
            self._client,
            endpoint,
            PATH,
            request.body,
            MessageAssembly(endpoint, names, request.output_tool),
            seconds_left=seconds_left,
        )
