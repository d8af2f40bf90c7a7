"""A prompt as the body of Anthropic's Messages API."""

from dataclasses import dataclass
from typing import Final

import msgspec

from meshwright_model_router.domain.conversation import (
    NO_ARGUMENTS,
    JsonObject,
    JsonValue,
    OutputFormat,
    Prompt,
    ToolChoice,
    ToolDefinition,
)
from meshwright_model_router.domain.tokens import count_prompt
from meshwright_model_router.providers.anthropic_messages import Body, messages_of, system_of
from meshwright_model_router.providers.anthropic_models import Traits, traits_of
from meshwright_model_router.providers.endpoint import AnthropicOptions
from meshwright_model_router.providers.tool_names import ToolNames

OUTPUT_TOOL: Final = "structured_output"
"""The tool whose arguments are the answer, for models without structured output of their own."""
MIN_CACHED_TOKENS: Final = 1024
"""Shorter prefixes are not kept by the provider, and writing one costs a quarter more."""
MIN_BUDGET_TOKENS: Final = 1024
BUDGETS: Final = {"low": 2048, "medium": 8192, "high": 16_384}
"""Tokens of thinking for a reasoning effort, for models that think by a budget."""

_JSON_ONLY: Final = "Answer with exactly one JSON object and nothing else."
_ANSWER: Final = "Give the answer to the user. Call this tool exactly once, at the end."


@dataclass(frozen=True, slots=True)
class EncodedRequest:
    """The body. `output_tool`: the arguments of that tool are the answer's text; "": none."""

    body: bytes
    output_tool: str = ""


def encode_request(
    options: AnthropicOptions, model: str, prompt: Prompt, names: ToolNames
) -> EncodedRequest:
    """Return the body of a streaming request.

    What the API has no field for (seed, penalties, speakers' names) is left out. Sampling is left
    out for models that refuse it, and beside thinking, which excludes it.
    """
    traits = traits_of(model)
    output_tool = _output_tool(options, traits, prompt, names)
    thinking = _thinking(options, traits, prompt, forced=bool(output_tool))
    body: Body = {
        "model": model,
        "max_tokens": _limit(options, prompt, thinking),
        "messages": messages_of(prompt.messages, names),
        "stream": True,
    }
    system = system_of(prompt.messages)
    if prompt.output_format is OutputFormat.JSON_OBJECT:
        system.append({"type": "text", "text": _JSON_ONLY})
    if system:
        body["system"] = system
    if thinking:
        body["thinking"] = thinking
    body |= _output_config(options, traits, prompt, native=not output_tool)
    body |= _tools(prompt, names, output_tool)
    if prompt.options.stop_sequences:
        body["stop_sequences"] = list(prompt.options.stop_sequences)
    if traits.sampling and not thinking:
        body |= _sampling(prompt)
    if options.prompt_cache != "off":
        _mark_for_cache(body, prompt, options)
    return EncodedRequest(msgspec.json.encode(body), output_tool)


def _limit(options: AnthropicOptions, prompt: Prompt, thinking: Body) -> int:
    budget = thinking.get("budget_tokens", 0)
    extra = budget if isinstance(budget, int) else 0
    return prompt.options.max_output_tokens or options.output_tokens + extra


def _thinking(options: AnthropicOptions, traits: Traits, prompt: Prompt, *, forced: bool) -> Body:
    effort = prompt.options.reasoning_effort
    # Thinking excludes a tool that must be called.
    forced = forced or (bool(prompt.tools) and prompt.tool_choice is ToolChoice.REQUIRED)
    if not effort or options.thinking == "off" or forced:
        return {}
    if _is_adaptive(options, traits):
        return {"type": "adaptive", "display": "summarized"}
    if prompt.messages[-1].tool_call_id:
        # A budget between two calls of tools wants the signed thoughts before the first, which
        # no message of ours holds.
        return {}
    budget = BUDGETS[effort]
    if prompt.options.max_output_tokens is not None:
        budget = min(budget, prompt.options.max_output_tokens // 2)
    if budget < MIN_BUDGET_TOKENS:
        return {}
    return {"type": "enabled", "budget_tokens": budget}


def _is_adaptive(options: AnthropicOptions, traits: Traits) -> bool:
    if options.thinking == "auto":
        return traits.adaptive_thinking
    return options.thinking == "adaptive"


def _output_config(
    options: AnthropicOptions, traits: Traits, prompt: Prompt, *, native: bool
) -> Body:
    config: Body = {}
    effort = prompt.options.reasoning_effort
    if effort and options.thinking != "off" and _is_adaptive(options, traits):
        config["effort"] = effort
    if native and prompt.output_format is OutputFormat.JSON_SCHEMA:
        config["format"] = {"type": "json_schema", "schema": prompt.output_schema}
    return {"output_config": config} if config else {}


def _output_tool(
    options: AnthropicOptions, traits: Traits, prompt: Prompt, names: ToolNames
) -> str:
    """Return the name of the tool that carries the answer; "": the API's own way, or plain text."""
    if prompt.output_format is not OutputFormat.JSON_SCHEMA or prompt.output_schema is None:
        return ""
    native = options.structured_output == "native"
    if options.structured_output == "auto":
        # The API's own way takes closed objects only; a tool takes any schema.
        native = traits.native_schema and _is_closed(prompt.output_schema)
    if native:
        return ""
    taken = {names.encode(tool.name) for tool in prompt.tools}
    return next(
        name
        for name in (OUTPUT_TOOL, *(f"{OUTPUT_TOOL}_{n}" for n in range(200)))
        if name not in taken
    )


def _is_closed(schema: JsonValue) -> bool:
    """Return whether all objects of a schema refuse further properties."""
    if isinstance(schema, dict):
        if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
            return False
        return all(map(_is_closed, schema.values()))
    if isinstance(schema, (list, tuple)):
        return all(map(_is_closed, schema))
    return True


def _tools(prompt: Prompt, names: ToolNames, output_tool: str) -> Body:
    offered = [_tool(names.encode(tool.name), tool) for tool in prompt.tools]
    if output_tool and prompt.output_schema is not None:
        offered.append(
            {"name": output_tool, "description": _ANSWER, "input_schema": prompt.output_schema}
        )
    if not offered:
        return {}
    return {"tools": offered, "tool_choice": _tool_choice(prompt, names, output_tool)}


def _tool(name: str, tool: ToolDefinition) -> Body:
    schema: JsonObject = tool.parameters or NO_ARGUMENTS
    fields: Body = {"name": name, "input_schema": {"type": "object", **schema}}
    if tool.description:
        fields["description"] = tool.description
    return fields


def _tool_choice(prompt: Prompt, names: ToolNames, output_tool: str) -> Body:
    choice: Body = {"type": "auto"}
    if output_tool and (not prompt.tools or prompt.tool_choice is ToolChoice.NONE):
        choice = {"type": "tool", "name": output_tool}
    elif prompt.tool_choice is ToolChoice.REQUIRED and prompt.tool_choice_name:
        choice = {"type": "tool", "name": names.encode(prompt.tool_choice_name)}
    elif output_tool or prompt.tool_choice is ToolChoice.REQUIRED:
        choice = {"type": "any"}
    elif prompt.tool_choice is ToolChoice.NONE:
        return {"type": "none"}
    if prompt.options.parallel_tool_calls is False:
        choice["disable_parallel_tool_use"] = True
    return choice


def _sampling(prompt: Prompt) -> Body:
    fields: Body = {}
    if prompt.options.temperature is not None:
        fields["temperature"] = min(prompt.options.temperature, 1.0)  # OpenAI's goes up to 2
    if prompt.options.top_p is not None:
        fields["top_p"] = prompt.options.top_p
    return fields


def _mark_for_cache(body: Body, prompt: Prompt, options: AnthropicOptions) -> None:
    """Mark where a prefix ends that later requests begin with: the system, the conversation.

    Tools stand before the system, so they are part of either prefix.
    """
    mark: Body = {"type": "ephemeral"}
    if options.prompt_cache == "1h":
        mark["ttl"] = "1h"
    system = [one for one in prompt.messages if one.role == "system"]
    if count_prompt(system, prompt.tools) >= MIN_CACHED_TOKENS:
        for field in ("system", "tools"):
            blocks = body.get(field)
            if isinstance(blocks, list) and blocks:
                blocks[-1]["cache_control"] = mark
                break
    messages = body["messages"]
    if (
        isinstance(messages, list)
        and messages
        and count_prompt(prompt.messages, prompt.tools) >= MIN_CACHED_TOKENS
    ):
        messages[-1]["content"][-1]["cache_control"] = mark
