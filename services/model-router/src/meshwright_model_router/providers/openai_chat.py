"""OpenAI-compatible chat completions: OpenAI, Azure, vLLM, Ollama, OpenRouter and many more."""

from collections.abc import AsyncGenerator
from typing import Final

from meshwright_model_router.domain.conversation import Prompt
from meshwright_model_router.domain.output import ProviderOutput
from meshwright_model_router.providers.endpoint import Endpoint
from meshwright_model_router.providers.http import HttpClient
from meshwright_model_router.providers.openai_chunks import Assembly
from meshwright_model_router.providers.openai_request import encode_request
from meshwright_model_router.providers.streaming import stream_answer
from meshwright_model_router.providers.tool_names import ToolNames

PATH: Final = "chat/completions"


class OpenAiChat:
    """ChatProvider over one endpoint."""

    def __init__(self, client: HttpClient, endpoint: Endpoint) -> None:
        self._client = client
        self._endpoint = endpoint

    def stream(
        self, model: str, prompt: Prompt, *, seconds_left: float | None
    ) -> AsyncGenerator[ProviderOutput, None]:
        endpoint = self._endpoint
        names = ToolNames(prompt.tools)
        return stream_answer(
            self._client,
            endpoint,
            endpoint.path_of(PATH, model),
            encode_request(endpoint, model, prompt, names),
            Assembly(endpoint, names),
            seconds_left=seconds_left,
        )
