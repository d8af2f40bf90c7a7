"""Settings: environment over file over defaults; a mistake names its variable."""

from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import Field

from meshwright_common.settings import (
    CommonSettings,
    Section,
    ServiceName,
    SettingsError,
    load,
    redacted,
)


class ChatSection(Section):
    lease_seconds: float = Field(default=30, gt=0)
    provider_api_key: str = ""


class ChatSettings(CommonSettings):
    service: ClassVar[ServiceName] = "chat"
    chat: ChatSection = ChatSection()


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MESHWRIGHT_CONFIG", raising=False)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "meshwright.yaml"
    monkeypatch.setenv("MESHWRIGHT_CONFIG", str(path))
    return path


def test_defaults_need_nothing() -> None:
    settings = load(ChatSettings)
    assert 30 == settings.chat.lease_seconds
    assert "embedded:" == settings.database.url


def test_environment_wins_over_the_file_and_the_file_over_defaults(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text("chat: {lease_seconds: 20}\nlifecycle: {grace_seconds: 7}\n")
    monkeypatch.setenv("MESHWRIGHT_CHAT__LEASE_SECONDS", "10")
    settings = load(ChatSettings)
    assert (10, 7) == (settings.chat.lease_seconds, settings.lifecycle.grace_seconds)


def test_section_is_merged_from_both(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text("lifecycle: {grace_seconds: 7, join_timeout_seconds: 3}\n")
    monkeypatch.setenv("MESHWRIGHT_LIFECYCLE__GRACE_SECONDS", "9")
    lifecycle = load(ChatSettings).lifecycle
    assert (9, 3) == (lifecycle.grace_seconds, lifecycle.join_timeout_seconds)


def test_peers_are_named_as_services_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESHWRIGHT_PEERS__TOOL_EXEC", "local:")
    monkeypatch.setenv("MESHWRIGHT_PEERS__RAG", "dns:///rag:50051")
    assert {"tool-exec": "local:", "rag": "dns:///rag:50051"} == load(ChatSettings).peers


def test_sections_of_other_services_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESHWRIGHT_RAG__ANYTHING", "1")
    monkeypatch.setenv("MESHWRIGHT_API_KEY", "not a section")
    load(ChatSettings)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MESHWRIGHT_CHAT__LEASE_SECONDS", "-1"),
        ("MESHWRIGHT_CHAT__LEASE_SECONDS", "soon"),
        ("MESHWRIGHT_CHAT__LEASE", "5"),
        ("MESHWRIGHT_CHATT__LEASE_SECONDS", "5"),
        ("MESHWRIGHT_DATABASE__ACQUIRE_TIMEOUT_SECONDS", "0"),
        ("MESHWRIGHT_DATABASE__LOCK_TIMEOUT_SECONDS", "0.1"),
        ("MESHWRIGHT_REDIS__TIMEOUT_SECONDS", "61"),
        ("MESHWRIGHT_TELEMETRY__LOG_LEVEL", "loud"),
        ("MESHWRIGHT_RPC__LISTEN", "here"),
        ("MESHWRIGHT_RPC__LISTEN", "127.0.0.1:65536"),
        ("MESHWRIGHT_TELEMETRY__METRICS_LISTEN", "9090"),
    ],
)
def test_wrong_value_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=f"^{variable}: "):
        load(ChatSettings)


def test_unknown_peer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESHWRIGHT_PEERS__RAGG", "local:")
    with pytest.raises(SettingsError, match="ragg"):
        load(ChatSettings)


@pytest.mark.parametrize(
    "content", ["chat: [", "- a list", "chatt: {lease_seconds: 1}", "\x00", "chat: {x: 1}"]
)
def test_wrong_file_is_an_error(config: Path, content: str) -> None:
    config.write_text(content)
    with pytest.raises(SettingsError, match="MESHWRIGHT_"):
        load(ChatSettings)


def test_file_that_is_named_must_exist(config: Path) -> None:
    with pytest.raises(SettingsError, match="cannot read"):
        load(ChatSettings)


def test_empty_file_is_no_mistake(config: Path) -> None:
    config.write_text("# nothing yet\n")
    load(ChatSettings)


def test_database_url_is_filled_with_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    template = "postgresql://meshwright_{service}:pass@127.0.0.1:5432/meshwright"
    monkeypatch.setenv("MESHWRIGHT_DATABASE__URL", template)
    url = load(ChatSettings).database.url_for("model-router")
    assert "postgresql://meshwright_model_router:pass@127.0.0.1:5432/meshwright" == url


def test_nothing_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESHWRIGHT_DATABASE__URL", "postgresql://me:hunter2@host/db")
    monkeypatch.setenv("MESHWRIGHT_REDIS__URL", "redis://:hunter2@host:6379/0")
    monkeypatch.setenv("MESHWRIGHT_CHAT__PROVIDER_API_KEY", "hunter2")
    settings = load(ChatSettings)
    shown = str(redacted(settings))
    assert "hunter2" not in shown
    assert "postgresql://me:***@host/db" in shown
    assert "hunter2" not in repr(settings.database)
