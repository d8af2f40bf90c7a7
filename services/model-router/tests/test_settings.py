"""Settings: the short form, deployments, and mistakes that name their variable."""

import json
from pathlib import Path

import pytest

from meshwright_common.settings import SettingsError, load, redacted
from meshwright_model_router.settings import Settings

PREFIX = "MESHWRIGHT_MODELS__"
KEY = "sk-very-secret-000000"


def loaded(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    for name, value in variables.items():
        monkeypatch.setenv(PREFIX + name, value)
    return load(Settings)


def mistake(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    with pytest.raises(SettingsError) as raised:
        loaded(monkeypatch, **variables)
    return str(raised.value)


def deployments(*items: dict[str, object]) -> str:
    return json.dumps(items)


def test_without_settings_the_built_in_models_are_the_defaults() -> None:
    models = load(Settings).models
    assert models.all_deployments() == ()
    assert models.default_model() == "offline"
    assert models.default_embedding_model() == "builtin-384"


def test_three_variables_make_a_real_model_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    models = loaded(
        monkeypatch, BASE_URL="https://api.openai.com/v1/", API_KEY=KEY, MODEL="gpt-5-mini"
    ).models
    (deployment,) = models.all_deployments()
    assert deployment.name == models.default_model() == "gpt-5-mini"
    assert deployment.base_url == "https://api.openai.com/v1"
    assert deployment.key == KEY
    assert models.default_embedding_model() == "builtin-384"


def test_embedding_model_at_the_same_address(monkeypatch: pytest.MonkeyPatch) -> None:
    models = loaded(
        monkeypatch,
        BASE_URL="http://127.0.0.1:8000/v1",
        EMBEDDING_MODEL="bge-m3",
        EMBEDDING_DIMENSIONS="1024",
    ).models
    assert models.default_embedding_model() == "bge-m3"
    assert models.default_model() == "offline"


def test_file_names_deployments_and_a_key_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "meshwright.yaml"
    config.write_text(
        "models:\n"
        "  deployments:\n"
        "    - {name: fast, base_url: 'http://host:8000/v1', model: qwen, api_key_env: MY_KEY}\n"
        "    - {name: 'sim-*', base_url: 'http://host:8001/v1', model: '*'}\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("MESHWRIGHT_CONFIG", str(config))
    monkeypatch.setenv("MY_KEY", KEY)
    models = load(Settings).models
    assert [one.name for one in models.all_deployments()] == ["fast", "sim-*"]
    assert models.all_deployments()[0].key == KEY
    assert models.default_model() == "fast"


def test_default_may_be_a_name_that_a_pattern_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = deployments({"name": "sim-*", "base_url": "http://127.0.0.1/v1", "model": "*"})
    assert loaded(monkeypatch, DEPLOYMENTS=listed).models.default_model() == "offline"
    assert loaded(monkeypatch, DEFAULT="sim-n3").models.default_model() == "sim-n3"


def test_keys_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = loaded(monkeypatch, BASE_URL="http://127.0.0.1/v1", API_KEY=KEY, MODEL="m")
    assert KEY not in json.dumps(redacted(settings))
    assert KEY not in repr(settings)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("localhost:11434/v1", "must start with http:// or https://"),
        ("ftp://host/v1", "must start with http:// or https://"),
        ("http://", "names no host"),
        ("http:///v1", "names no host"),
        ("http://host:99999/v1", "is no URL"),
        ("http://user:pass@host/v1", "no user and password"),
        ("http://host/v1?a=b", "without ? and #"),
        ("http://host/v1/chat/completions", "before /chat/completions"),
        ("", "must start with"),
    ],
)
def test_wrong_base_url_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, url: str, says: str
) -> None:
    text = mistake(monkeypatch, BASE_URL=url, MODEL="m")
    assert text.startswith("MESHWRIGHT_MODELS__BASE_URL: ")
    assert says in text


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"BASE_URL": "http://h/v1"}, "MESHWRIGHT_MODELS__MODEL"),
        ({"MODEL": "m"}, "MESHWRIGHT_MODELS__BASE_URL"),
        ({"DEFAULT": "gpt"}, "MESHWRIGHT_MODELS__DEFAULT names 'gpt'"),
        ({"DEFAULT_EMBEDDING": "offline"}, "MESHWRIGHT_MODELS__DEFAULT_EMBEDDING names 'offline'"),
        ({"MODLE": "m"}, "MESHWRIGHT_MODELS__MODLE: Extra inputs"),
        ({"BASE_URL": "http://h/v1", "EMBEDDING_MODEL": "e"}, "belong together"),
        ({"BASE_URL": "http://h/v1", "MODEL": "offline"}, "two models are named 'offline'"),
        (
            {"DEPLOYMENTS": deployments({"name": "*", "base_url": "http://h/v1", "model": "*"})},
            "MESHWRIGHT_MODELS__DEPLOYMENTS__0__NAME",
        ),
        (
            {"DEPLOYMENTS": deployments({"name": "a", "base_url": "h", "model": "m"})},
            "MESHWRIGHT_MODELS__DEPLOYMENTS__0__BASE_URL",
        ),
        (
            {"DEPLOYMENTS": deployments({"name": "a", "base_url": "http://h", "model": "*"})},
            "model may be * only when name ends with *",
        ),
        (
            {"DEPLOYMENTS": deployments({"name": "a-*", "base_url": "http://h"})},
            "model must be set (or *) when name ends with *",
        ),
        (
            {
                "DEPLOYMENTS": deployments(
                    {"name": "a", "base_url": "http://h", "api_key_env": "NO_SUCH_KEY_VARIABLE"}
                )
            },
            "NO_SUCH_KEY_VARIABLE, which is not set",
        ),
        (
            {
                "DEPLOYMENTS": deployments(
                    {"name": "a", "base_url": "http://h"}, {"name": "a", "base_url": "http://h"}
                )
            },
            "two models are named 'a'",
        ),
    ],
)
def test_mistake_says_what_to_mend(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], says: str
) -> None:
    assert says in mistake(monkeypatch, **variables)
