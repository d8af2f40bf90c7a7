"""The operator's file of models: what is wrong with it is told by line, and it is read again."""

from __future__ import annotations

import asyncio
import re
import textwrap
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from meshwright_common.errors import ServiceError
from meshwright_common.settings import SettingsError, load
from meshwright_common.testing.waiting import eventually
from meshwright_model_router.adapters.metrics import MODELS_FILE_REFUSED
from meshwright_model_router.configuration import Configuration
from meshwright_model_router.domain.permits import Credential, Permits
from meshwright_model_router.domain.routing import Strategy
from meshwright_model_router.domain.usage import Operation
from meshwright_model_router.providers.builtin_embeddings.process import open_builtin_embeddings
from meshwright_model_router.providers.http import open_session
from meshwright_model_router.settings import Settings

TENANT = "0190b6a0-0000-7000-8000-000000000001"
KEY = "sk-of-the-operator-000000"
GOOD = """
default: fast
credentials:
  - {name: main, env: OPERATORS_KEY, hosts: [api.openai.com]}
deployments:
  - name: eu
    model: fast
    provider_model: gpt-5-mini
    base_url: https://api.openai.com/v1
    credential_name: main
    priority: 1
    limits: {tokens_per_minute: 100000}
  - name: us
    model: fast
    base_url: http://127.0.0.1:9/v1
    prices:
      - {input_micro_usd: 100}
      - {since: 2026-07-01T00:00:00Z, input_micro_usd: 200}
policies:
  - {name: fast, models: [fast], strategy: least_busy, fallback_models: [offline]}
"""

Configure = Callable[..., Configuration]


@pytest_asyncio.fixture
async def configure(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Configure]:
    """Reads settings, as the service does at its start."""
    monkeypatch.setenv("OPERATORS_KEY", KEY)
    async with open_session(10) as client, open_builtin_embeddings() as builtin:

        def configuration(**settings: Any) -> Configuration:
            for name, value in settings.items():
                monkeypatch.setenv(f"MESHWRIGHT_MODELS__{name.upper()}", str(value))
            models = load(Settings).models
            for name in settings:
                monkeypatch.delenv(f"MESHWRIGHT_MODELS__{name.upper()}")
            return Configuration(models, client, builtin)

        yield configuration


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "models.yaml"
    write(path, GOOD)
    return path


@pytest.mark.asyncio
async def test_a_file_says_deployments_policies_prices_and_the_default(
    configure: Configure, file: Path
) -> None:
    table = configure(file=file).tables.of(TENANT)
    resolved = table.resolve("", Operation.GENERATE)
    assert resolved.model == "fast"
    assert resolved.policy.strategy is Strategy.LEAST_BUSY
    assert [(one.deployment.name, one.model) for one in resolved.routes] == [
        ("eu", "gpt-5-mini"),
        ("us", "fast"),
    ]
    eu, us = (one.deployment for one in resolved.routes)
    assert (eu.priority, eu.limits.tokens_per_minute) == (1, 100_000)
    # Nobody gave a price for a model that the shipped list knows at this address.
    assert [one.prices.input for one in eu.prices.periods] == [250_000]
    assert [one.prices.input for one in us.prices.periods] == [100, 200]


@pytest.mark.asyncio
async def test_settings_come_before_the_file(configure: Configure, file: Path) -> None:
    short = {"base_url": "http://127.0.0.1:9/v1", "model": "real"}
    table = configure(file=file).tables.of(TENANT)
    for settings, default in (
        ({}, "fast"),
        ({"default": "offline"}, "offline"),
        (short, "real"),
        ({"default": "fast", **short}, "fast"),
    ):
        table = configure(file=file, **settings).tables.of(TENANT)
        assert table.default(Operation.GENERATE) == default, settings
    assert {"real", "fast", "offline"} <= set(table.models(Operation.GENERATE))
    write(file, "deployments: [{name: first, base_url: 'http://127.0.0.1:9/v1'}]")
    table = configure(file=file).tables.of(TENANT)
    assert table.default(Operation.GENERATE) == "first"
    assert table.default(Operation.EMBED) == "builtin-384"
    with pytest.raises(SettingsError, match="MESHWRIGHT_MODELS__DEFAULT names 'fast'"):
        configure(file=file, default="fast")


PAGE = Path(__file__).resolve().parents[4] / "docs" / "routing.md"
DOCUMENTED = re.compile(r"^    # models\.yaml\n(?:    .*\n)+", re.MULTILINE)


@pytest.mark.asyncio
async def test_the_file_of_the_documentation_is_a_good_one(
    configure: Configure, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    write(tmp_path / "vllm", KEY)
    page = (
        next(one for one in Path(__file__).parents if (one / "docs").is_dir()) / "docs/routing.md"
    )
    (example,) = DOCUMENTED.findall(page.read_text("utf-8"))
    write(file, textwrap.dedent(example).replace("/run/secrets", str(tmp_path)))
    resolved = configure(file=file).tables.of(TENANT).resolve("fast", Operation.GENERATE)
    assert {route.deployment.name for route in resolved.routes} == {"fast-cloud", "fast-here"}
    assert resolved.policy.hedge_after_seconds == 2


MISTAKES: list[tuple[str, str]] = [
    ("", ":1: must hold a mapping"),
    ("- a", ":1: must hold a mapping"),
    ("deployments: [", ":1: is not YAML"),
    ("\ndeployments:\n  - name: A\n", ":3: deployments[0].name: "),
    ("deployments:\n  - {name: a, base_url: 'ftp://h'}", ":2: deployments[0].base_url: must start"),
    ("deployments:\n  - name: a\n", ":2: deployments[0]: base_url must be set"),
    ("default: nothing", ":1: default: names 'nothing', which is none of: offline"),
    ("modles: []", ":1: modles: Extra inputs"),
    ("default: a\ndefault: b", ": default: stands here twice"),
    (
        "deployments:\n  - {name: a, base_url: 'http://h/v1'}\n  - {name: a, base_url: 'http://h'}",
        ":3: deployments[1].name: two of deployments are named 'a'",
    ),
    (
        "deployments:\n  - {name: offline, base_url: 'http://h/v1'}",
        ":2: deployments[0].name: 'offline' is the name of another deployment",
    ),
    (
        "deployments:\n  - {name: a, base_url: 'http://h/v1', credential_name: none}",
        ":2: deployments[0].credential_name: there is no credential 'none'",
    ),
    (
        "credentials:\n  - {name: k, env: OPERATORS_KEY, hosts: ['api.openai.com']}\n"
        "deployments:\n  - {name: a, base_url: 'https://example.com/v1', credential_name: k}",
        ":4: deployments[0].credential_name: credential 'k' is not for example.com:443",
    ),
    (
        "credentials:\n  - {name: k, env: OPERATORS_KEY, hosts: ['*.com']}",
        ":2: credentials[0].hosts[0]: must name one host",
    ),
    (
        "credentials:\n  - {name: k, env: NO_SUCH_VARIABLE, hosts: [h]}",
        ":2: credentials[0]: env names NO_SUCH_VARIABLE, which is not set",
    ),
    ("credentials:\n  - {name: k, hosts: [h]}", ":2: credentials[0]: needs env or file"),
    ("egress: {private_hosts: [localhost]}", ":1: egress.private_hosts[0]: must be host:port"),
    ("egress:\n  hosts: ['a b']", ":2: egress.hosts[0]: must be host"),
    ("policies:\n  - {name: p, models: [gone]}", ":2: policies[0].models[0]: no deployment serves"),
    (
        "policies:\n  - {name: p}\n  - {name: q}",
        ":3: policies[1].models: policy 'p' rules all models",
    ),
    (
        "deployments:\n  - {name: a, provider: langchain, factory: 'no_such_module:make'}",
        ":2: deployments[0].factory: needs the package 'no_such_module'",
    ),
    (
        "deployments:\n  - name: a\n    base_url: http://h/v1\n    prices: {input_micro_usd: -1}",
        ":4: deployments[0].prices[0].input_micro_usd: ",
    ),
]


@pytest.mark.asyncio
async def test_mistakes_name_file_line_and_field(configure: Configure, file: Path) -> None:
    for text, says in MISTAKES:
        write(file, text)
        with pytest.raises(SettingsError) as raised:
            configure(file=file)
        assert f"{file}{says}" in str(raised.value) or says in str(raised.value), text
        assert KEY not in str(raised.value)


@pytest.mark.asyncio
async def test_a_file_that_is_not_there_is_told(configure: Configure, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="MESHWRIGHT_MODELS__FILE: cannot read"):
        configure(file=tmp_path / "none.yaml")


@pytest_asyncio.fixture
async def watched(configure: Configure, file: Path) -> AsyncIterator[Configuration]:
    configuration = configure(file=file)
    watching = asyncio.create_task(configuration.watch())
    yield configuration
    watching.cancel()
    await asyncio.wait([watching])


def write(file: Path, text: str) -> None:
    file.write_text(text, "utf-8")


def remove(file: Path) -> None:
    file.unlink()


def names(configuration: Configuration) -> set[str]:
    return {one for one in configuration.tables.of(TENANT).records if "builtin" not in one}


def replace(file: Path, text: str) -> None:
    partial = file.with_suffix(".new")
    partial.write_text(text, "utf-8")
    partial.replace(file)


ONE = "deployments: [{name: %s, base_url: 'http://127.0.0.1:9/v1'}]"


@pytest.mark.asyncio
async def test_a_change_is_in_force_within_two_seconds_and_who_holds_a_table_keeps_it(
    watched: Configuration, file: Path
) -> None:
    held = watched.tables.of(TENANT)
    replace(file, ONE % "fresh")
    await eventually(lambda: names(watched) == {"offline", "fresh"})
    assert [route.deployment.name for route in held.resolve("fast", Operation.GENERATE).routes]
    write(file, ONE % "written-in-place")
    await eventually(lambda: "written-in-place" in names(watched))


@pytest.mark.asyncio
async def test_a_bad_file_leaves_the_last_good_one_in_force_and_raises_an_alarm(
    watched: Configuration, file: Path
) -> None:
    def refused() -> bool:
        value: float = MODELS_FILE_REFUSED._value.get()
        return value == 1

    before = names(watched)
    replace(file, "deployments: [")
    await eventually(refused)
    assert names(watched) == before
    replace(file, GOOD)
    await eventually(lambda: not refused())
    remove(file)
    await eventually(refused)
    assert names(watched) == before
    replace(file, ONE % "back")
    await eventually(lambda: "back" in names(watched))
    assert not refused()


@pytest.mark.asyncio
async def test_a_file_mounted_by_links_is_read_when_the_folder_is_swapped(
    configure: Configure, tmp_path: Path
) -> None:
    for version in ("one", "two"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "models.yaml").write_text(ONE % version, "utf-8")
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "models.yaml").symlink_to("..data/models.yaml")
    configuration = configure(file=tmp_path / "models.yaml")
    watching = asyncio.create_task(configuration.watch())
    try:
        (tmp_path / "..new").symlink_to("two")
        (tmp_path / "..new").replace(tmp_path / "..data")
        await eventually(lambda: names(configuration) == {"offline", "two"})
    finally:
        watching.cancel()


@pytest.mark.asyncio
async def test_a_key_in_a_file_is_read_again_when_it_is_rotated(
    configure: Configure, tmp_path: Path, file: Path
) -> None:
    key = tmp_path / "key"
    write(key, "first\n")
    write(file, f"credentials: [{{name: k, file: {key}, hosts: [h]}}]")
    configuration = configure(file=file)
    assert configuration.permits.credentials["k"].secret == "first"
    watching = asyncio.create_task(configuration.watch())
    try:
        replace(key, "second")
        await eventually(lambda: configuration.permits.credentials["k"].secret == "second")
    finally:
        watching.cancel()


def test_keys_are_in_no_representation() -> None:
    permits = Permits(credentials={"k": Credential("k", KEY)})
    assert KEY not in repr(permits)


def test_a_domain_is_allowed_with_all_below_it_and_nothing_beside(tmp_path: Path) -> None:
    permits = Permits(hosts=frozenset({"*.example.com:443"}))
    for good in ("https://a.example.com/v1", "https://a.b.example.com:443"):
        assert permits.check(TENANT, good, "") == ""
    bad: list[Any] = ["https://example.com", "https://aexample.com", "https://a.example.com.evil"]
    for one in bad:
        with pytest.raises(ServiceError, match="allows no deployments"):
            permits.check(TENANT, one, "")
