"""The operator's YAML file of models: deployments, policies, prices, credentials, egress, guards.

Everything wrong with it is said with the file's name, the line and the path of the field. A file
that is wrong is as if it had not been written.
"""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import yaml
from pydantic import AfterValidator, Field, ValidationError, model_validator

from meshwright_common.ids import parse_id
from meshwright_common.settings import Section, SettingsError
from meshwright_model_router.deployment_settings import ModelPattern, ServedSettings
from meshwright_model_router.domain.permits import EVERY_TENANT, Credential, Permits
from meshwright_model_router.domain.routing import (
    DEFAULT_ATTEMPTS,
    DEFAULT_PRIORITY,
    DEFAULT_WEIGHT,
    MAX_ATTEMPTS,
    MAX_FALLBACKS,
    CoolDown,
    DeploymentLimits,
    RoutingPolicy,
    Strategy,
)
from meshwright_model_router.yaml_lines import Document, Mistake

MAX_BYTES: Final = 4 * 1024 * 1024
HTTPS_PORT: Final = 443

_HOST: Final = re.compile(r"(\*\.)?[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]+\]")


def _place(value: str) -> str:
    """Return `host:port` of what stands for a host; without a port it is the one of https."""
    host, port = _split(value.strip().lower())
    if not _HOST.fullmatch(host):
        raise ValueError("must be host, host:port or *.domain, such as api.openai.com")
    return f"{host.strip('[]')}:{port or HTTPS_PORT}"


def _exact_place(value: str) -> str:
    if "*" in value:
        raise ValueError("must name one host: a key is never for all hosts below a domain")
    return _place(value)


def _private_place(value: str) -> str:
    if not _split(value)[1]:
        raise ValueError("must be host:port")
    return _exact_place(value)


def _split(value: str) -> tuple[str, int]:
    host, colon, port = value.rpartition(":")
    if not colon or (host.startswith("[") and port.endswith("]")):
        return value, 0
    if not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise ValueError("has no port from 1 to 65535 after its colon")
    return host, int(port)


def _tenant(value: str) -> str:
    return value if value == EVERY_TENANT else parse_id(value, "tenants")


Name = Annotated[str, Field(pattern=r"^[a-z0-9_.-]{1,64}$")]
HostPattern = Annotated[str, AfterValidator(_place)]
Host = Annotated[str, AfterValidator(_exact_place)]
PrivateHost = Annotated[str, AfterValidator(_private_place)]
Tenant = Annotated[str, AfterValidator(_tenant)]


class CredentialSection(Section):
    """A key by its name. The key itself stands in a variable or a file, never here."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    env: str = Field(default="", pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?$")
    """Variable that holds the key."""
    file: Path | None = None
    """File that holds the key and nothing else; read again when it changes."""
    hosts: tuple[Host, ...] = Field(min_length=1)
    """The only hosts that it is sent to."""
    tenants: tuple[Tenant, ...] = ()
    """Ids of tenants that may name it in deployments of their own; "*": all. None: nobody."""

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if bool(self.env) == (self.file is not None):
            raise ValueError("needs env or file, one of them")
        if self.env and self.env not in os.environ:
            raise ValueError(f"env names {self.env}, which is not set")
        return self

    def read(self) -> Credential:
        """Return it with its key. Raises: Mistake when the file cannot be read or is empty."""
        secret = os.environ.get(self.env, "")
        if self.file is not None:
            try:
                secret = self.file.read_text("utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise ValueError(f"file {self.file} cannot be read: {error}") from None
        if not secret or not secret.isprintable():
            raise ValueError(f"{self.env or self.file} holds no key")
        return Credential(self.name, secret, frozenset(self.hosts), frozenset(self.tenants))


class LimitsSection(Section):
    """What a deployment can carry, all replicas together. 0: unlimited."""

    requests_per_minute: int = Field(default=0, ge=0)
    tokens_per_minute: int = Field(default=0, ge=0)
    concurrent_requests: int = Field(default=0, ge=0)


class DeploymentSection(ServedSettings):
    """One place where a model can be called, in the words of the API."""

    name: Name
    model: ModelPattern = ""
    """What clients ask for; several deployments may serve one model. Unset: the name."""
    provider_model: str = Field(default="", max_length=256)
    """What the provider is asked for. Unset: the model. `*`: what the client asked for."""
    credential_name: str = ""
    disabled: bool = False
    priority: int = Field(default=DEFAULT_PRIORITY, ge=1, le=100)
    weight: int = Field(default=DEFAULT_WEIGHT, ge=1, le=1000)
    limits: LimitsSection = LimitsSection()

    @property
    def asked(self) -> str:
        """What clients ask for."""
        return self.model or self.name

    @property
    def carries(self) -> DeploymentLimits:
        """The limits as the domain has them."""
        return DeploymentLimits(**self.limits.model_dump())

    @model_validator(mode="after")
    def _check_pattern(self) -> Self:
        if self.provider_model == "*" and not self.asked.endswith("*"):
            raise ValueError("provider_model may be * only when model ends with *")
        if self.asked.endswith("*") and not self.provider_model:
            raise ValueError("provider_model must be set (or *) when model ends with *")
        return self


class CoolDownSection(Section):
    """When a deployment rests."""

    consecutive_failures: int = Field(default=3, ge=1, le=100)
    error_rate: float = Field(default=0.2, gt=0, le=1)
    seconds: float = Field(default=60, ge=1, le=3600)


class PolicySection(Section):
    """How calls of some models are routed; no models: all that no other policy names."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,64}$")]
    models: tuple[ModelPattern, ...] = ()
    strategy: Literal["priority", "weighted", "least_busy", "lowest_latency", "lowest_cost"] = (
        "priority"
    )
    sticky_by_session: bool = False
    fallback_models: tuple[str, ...] = Field(default=(), max_length=MAX_FALLBACKS)
    max_attempts: int = Field(default=DEFAULT_ATTEMPTS, ge=1, le=MAX_ATTEMPTS)
    hedge_after_seconds: float | None = Field(default=None, ge=0.1, le=30)
    cool_down: CoolDownSection = CoolDownSection()

    def policy(self) -> RoutingPolicy:
        """Return it as the domain has it."""
        rest = self.cool_down
        return RoutingPolicy(
            name=self.name,
            models=self.models,
            strategy=Strategy(self.strategy),
            sticky_by_session=self.sticky_by_session,
            fallback_models=self.fallback_models,
            max_attempts=self.max_attempts,
            hedge_after_seconds=self.hedge_after_seconds,
            cool_down=CoolDown(rest.consecutive_failures, rest.error_rate, rest.seconds),
        )


class EgressSection(Section):
    """Where deployments that tenants make may go. None: nowhere."""

    hosts: tuple[HostPattern, ...] = ()
    """Hosts with public addresses, over https: `host`, `host:port` or `*.domain`."""
    private_hosts: tuple[PrivateHost, ...] = ()
    """`host:port` of the operator's own network, wherever they lie, also without TLS."""


class ModelsFile(Section):
    """The whole file."""

    default: str = ""
    default_embedding: str = ""
    default_rerank: str = ""
    default_moderation: str = ""
    credentials: tuple[CredentialSection, ...] = ()
    deployments: tuple[DeploymentSection, ...] = ()
    policies: tuple[PolicySection, ...] = ()
    egress: EgressSection = EgressSection()
    guards: tuple[dict[str, Any], ...] = ()

    def permits(self) -> Permits:
        """Return what tenants' deployments may do. Raises: Mistake for a key that is not there."""
        credentials: dict[str, Credential] = {}
        for at, one in enumerate(self.credentials):
            try:
                credentials[one.name] = one.read()
            except ValueError as error:
                raise Mistake(("credentials", at), str(error)) from None
        return Permits(
            frozenset(self.egress.hosts), frozenset(self.egress.private_hosts), credentials
        )

    @property
    def key_files(self) -> tuple[Path, ...]:
        """Files that hold keys."""
        return tuple(one.file for one in self.credentials if one.file is not None)


def read_models_file(path: Path) -> tuple[ModelsFile, Document]:
    """Return what a file says, and where it says it. Raises: SettingsError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        text = data.decode("utf-8")
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not UTF-8: {error}") from None
    if len(data) > MAX_BYTES:
        raise SettingsError(f"{path} is over {MAX_BYTES} bytes")
    try:
        document = Document(path, text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        raise SettingsError(f"{path}:{line}: is not YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: is not YAML: {error}") from None
    with document.located():
        document.refuse_doubled_keys()
        if not isinstance(document.content, Mapping):
            # Also an empty file: one that is just being written looks like that.
            raise Mistake((), "must hold a mapping, such as `deployments: []`")
        try:
            parsed = ModelsFile.model_validate(document.content)
        except ValidationError as error:
            raise document.error(
                (detail["loc"], detail["msg"].removeprefix("Value error, "))
                for detail in error.errors(include_url=False, include_input=False)
            ) from None
        _check_names(parsed)
    return parsed, document


def _check_names(file: ModelsFile) -> None:
    for section in ("credentials", "deployments", "policies"):
        _refuse_doubled(section, [one.name for one in getattr(file, section)])
    ruled: dict[str, str] = {}
    for at, policy in enumerate(file.policies):
        for name in policy.models or ("",):
            if name in ruled:
                what = repr(name) if name else "all models that no other names"
                raise Mistake(
                    ("policies", at, "models"), f"policy {ruled[name]!r} rules {what} already"
                )
            ruled[name] = policy.name


def _refuse_doubled(section: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for at, name in enumerate(names):
        if name in seen:
            raise Mistake((section, at, "name"), f"two of {section} are named {name!r}")
        seen.add(name)
