"""Settings of the kinds of providers: what is built, and mistakes that name their setting."""

import json

import pytest

from meshwright_common.settings import SettingsError, load
from meshwright_model_router.configured import deployment_of, endpoint_of, from_settings
from meshwright_model_router.domain.usage import Operation
from meshwright_model_router.providers.http import open_session
from meshwright_model_router.settings import ModelsSettings, Settings

FAKE = "langchain_core.language_models:FakeListChatModel"


def deployment(**fields: object) -> ModelsSettings:
    return ModelsSettings.model_validate({"deployments": [{"name": "m"} | fields]})


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "base_url must be set for provider openai"),
        ({"provider": "azure"}, "base_url must be set for provider azure"),
        ({"provider": "mistral"}, "'openai', 'azure', 'anthropic' or 'langchain'"),
        ({"provider": "langchain"}, "needs factory"),
        ({"provider": "langchain", "factory": "nothing"}, "package.module:callable"),
        ({"provider": "langchain", "factory": "no_such_package:f"}, "not installed here"),
        ({"provider": "langchain", "factory": FAKE, "base_url": "http://h"}, "no base_url"),
        ({"base_url": "http://h", "factory": FAKE}, "belong to provider langchain"),
        ({"base_url": "http://h", "arguments": {"a": 1}}, "belong to provider langchain"),
        (
            {"provider": "langchain", "factory": FAKE, "arguments_env": {"key": "NO_SUCH_ONE"}},
            "names NO_SUCH_ONE, which is not set",
        ),
        ({"base_url": "http://h", "api_version": "2024-10-21"}, "belongs to provider azure"),
        ({"base_url": "http://h", "prompt_cache": "5m"}, "belongs to provider anthropic"),
        ({"base_url": "http://h", "thinking": "off"}, "belongs to provider anthropic"),
        ({"provider": "anthropic", "prompt_cache": "2h"}, "PROMPT_CACHE"),
        ({"provider": "anthropic", "capabilities": ["rerank"]}, "anthropic cannot rerank"),
        ({"provider": "anthropic", "embedding_dimensions": 3}, "anthropic cannot embed"),
        ({"base_url": "http://h", "capabilities": ["embed"]}, "embedding_dimensions"),
        ({"base_url": "http://h", "capabilities": ["sing"]}, "CAPABILITIES"),
        ({"base_url": "http://h/v1/messages"}, "the address before /messages"),
        ({"base_url": "http://h/v1/rerank"}, "the address before /rerank"),
    ],
)
def test_mistake_names_its_setting(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, object], said: str
) -> None:
    monkeypatch.setenv("MESHWRIGHT_MODELS__DEPLOYMENTS", json.dumps([{"name": "m"} | fields]))
    with pytest.raises(SettingsError) as raised:
        load(Settings)
    assert said in str(raised.value)
    assert "MESHWRIGHT_MODELS__DEPLOYMENTS" in str(raised.value)


def test_purposes_come_from_capabilities_or_from_what_is_likeliest() -> None:
    (generating,) = deployment(base_url="http://h").deployments
    assert generating.operations == {Operation.GENERATE}
    (embedding,) = deployment(base_url="http://h", embedding_dimensions=8).deployments
    assert embedding.operations == {Operation.EMBED}
    (several,) = deployment(base_url="http://h", capabilities=["rerank", "moderate"]).deployments
    assert several.operations == {Operation.RERANK, Operation.MODERATE}


def test_anthropic_needs_a_key_and_a_model_only() -> None:
    models = ModelsSettings.model_validate(
        {"provider": "anthropic", "model": "claude-opus-4-7", "api_key": "k"}
    )
    (one,) = models.all_deployments()
    assert models.default_model() == "claude-opus-4-7"
    endpoint = endpoint_of(one, models)
    assert endpoint.base_url == "https://api.anthropic.com/v1"
    assert endpoint.request_headers["x-api-key"] == "k"
    assert deployment_of(one, models).capabilities == ("tools", "vision", "json_schema")


def test_options_of_anthropic_reach_its_endpoint() -> None:
    models = deployment(
        provider="anthropic",
        prompt_cache="1h",
        thinking="budget",
        structured_output="tool",
        default_output_tokens=99,
    )
    options = endpoint_of(models.deployments[0], models).anthropic
    assert (options.prompt_cache, options.thinking) == ("1h", "budget")
    assert (options.structured_output, options.output_tokens) == ("tool", 99)


def test_arguments_may_come_from_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_LANGCHAIN_KEY", "secret")
    (one,) = deployment(
        provider="langchain",
        factory=FAKE,
        arguments={"responses": ["a"]},
        arguments_env={"key": "MY_LANGCHAIN_KEY"},
    ).deployments
    assert one.all_arguments == {"responses": ["a"], "key": "secret"}
    assert "secret" not in repr(one)


def test_defaults_are_the_first_deployment_of_a_purpose_or_built_in() -> None:
    models = deployment(base_url="http://h", capabilities=["rerank"])
    assert models.default_of(Operation.RERANK) == "m"
    assert models.default_of(Operation.MODERATE) == "builtin-moderation"
    with pytest.raises(ValueError, match="MESHWRIGHT_MODELS__DEFAULT_MODERATION"):
        ModelsSettings(default_moderation="m")


@pytest.mark.asyncio
async def test_factory_that_makes_no_model_stops_the_start() -> None:
    """The name of the deployment and what went wrong, not a traceback."""
    models = deployment(provider="langchain", factory=FAKE, arguments={"responses": 5})
    async with open_session(1) as client:
        with pytest.raises(SettingsError, match=r"deployment 'm': factory .*FakeListChatModel"):
            list(from_settings(models, client))
        good = deployment(provider="langchain", factory=FAKE, arguments={"responses": ["a"]})
        (served,) = from_settings(good, client)
    assert served.providers.chat is not None
