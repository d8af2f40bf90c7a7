"""Typed settings: environment `MESHWRIGHT_…` over a YAML file over defaults.

`MESHWRIGHT_CHAT__TURN_LEASE_SECONDS=30` sets `chat.turn_lease_seconds`. `MESHWRIGHT_CONFIG` names
a YAML file with the same nesting. Sections refuse fields they do not know.
"""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar, Final, Literal, Self, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from meshwright_common.master_keys import parse_master_keys
from meshwright_common.setting_values import listen_address, of_schemes
from meshwright_common.telemetry.settings import TelemetrySettings

ServiceName = Literal[
    "session", "model-router", "tool-exec", "rag", "orchestrator", "chat", "gateway"
]
SERVICE_NAMES: Final[tuple[ServiceName, ...]] = (
    "session",
    "model-router",
    "tool-exec",
    "rag",
    "orchestrator",
    "chat",
    "gateway",
)
"""Every service, in the order in which they depend on each other."""

PREFIX: Final = "MESHWRIGHT_"
CONFIG_VARIABLE: Final = "MESHWRIGHT_CONFIG"
KNOWN_SECTIONS: Final = frozenset(
    {
        *("database", "redis", "objects", "events", "dispatch", "registry", "peers", "tls"),
        *("identity", "encryption", "limits", "quotas", "rpc", "lifecycle", "telemetry", "egress"),
        *("session", "models", "tool_exec", "rag", "orchestrator", "chat", "gateway", "cli"),
    }
)
"""Top-level names that some service reads. A nested variable of any other name is a mistake."""


class SettingsError(Exception):
    """The settings are wrong. The text has one line per mistake, each naming its variable."""


class Section(BaseModel):
    """A group of settings: frozen, and unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DatabaseSettings(Section):
    """PostgreSQL. `url` may hold `{service}`, filled with the service's name in snake case.

    Limits in seconds: to log in; to get a connection of the pool, a new one where none is free; of
    a statement that a user waits for; of the wait for a lock.
    """

    url: str = Field(default="embedded:", repr=False)
    connect_timeout_seconds: float = Field(default=3, gt=0, le=60)
    acquire_timeout_seconds: float = Field(default=2, gt=0, le=60)
    statement_timeout_seconds: float = Field(default=5, gt=0, le=60)
    # Longer than PostgreSQL takes to find a deadlock (`storage.bootstrap`).
    lock_timeout_seconds: float = Field(default=1, ge=0.5, le=60)

    def url_for(self, service: str) -> str:
        """Return the URL for `service`: "model-router" becomes `model_router` in it."""
        return self.url.replace("{service}", service.replace("-", "_"))


class RedisSettings(Section):
    """Redis or Valkey: `redis://`, `rediss://`, or `redis+cluster://host:port,host:port`.

    A connection, and each answer, are waited for `timeout_seconds`: callers go on without.
    """

    url: str = Field(default="embedded:", repr=False)
    timeout_seconds: float = Field(default=0.5, gt=0, le=60)


class ObjectSettings(Section):
    """Where files are kept: `file:///folder`, `s3://[key:secret@]bucket/prefix`, or `embedded:`.

    `endpoint` and `region` name an S3 server that is not Amazon's.
    """

    url: str = Field(default="embedded:", repr=False)
    endpoint: str = ""
    region: str = "us-east-1"


class EventSettings(Section):
    """Event backbone: `embedded:` keeps the log in PostgreSQL, `kafka://host:port,…` is Kafka.

    `kafka+tls://user:password@…` logs in by SCRAM-SHA-512 over TLS, checked against `ca_file`.
    `topic_prefix` comes before every topic and consumer group, so that installations can share a
    cluster. Topics that are missing are made with `partitions`, and with `replication_factor`
    copies (0: three, or as many as there are brokers).
    """

    url: str = Field(default="embedded:", repr=False)
    topic_prefix: str = Field(default="", pattern=r"^[A-Za-z0-9._-]{0,60}$")
    partitions: int = Field(default=12, ge=1, le=1000)
    replication_factor: int = Field(default=0, ge=0, le=9)
    ca_file: Path | None = None

    @field_validator("url")
    @classmethod
    def _is_known(cls, url: str) -> str:
        return of_schemes(url, "embedded:", "kafka://", "kafka+tls://")


class DispatchSettings(Section):
    """Work queues: `embedded:` keeps them in PostgreSQL, `amqp(s)://…/vhost` is RabbitMQ.

    `prefix` comes before every exchange and queue.
    """

    url: str = Field(default="embedded:", repr=False)
    prefix: str = Field(default="", pattern=r"^[A-Za-z0-9._-]{0,60}$")

    @field_validator("url")
    @classmethod
    def _is_known(cls, url: str) -> str:
        return of_schemes(url, "embedded:", "amqp://", "amqps://")


class RegistrySettings(Section):
    """Where processes announce themselves: `static:` nowhere, `consul://[:token@]host:port` Consul.

    `consul+tls://` is the same over TLS, checked against `ca_file` or the machine's authorities.
    `prefix` comes before every service name. `advertise` is the host that others reach this
    process by; without it, the host of `rpc.listen`.
    """

    url: str = Field(default="static:", repr=False)
    prefix: str = Field(default="meshwright-", pattern=r"^[a-z0-9-]{0,60}$")
    advertise: str = ""
    ca_file: Path | None = None

    @field_validator("url")
    @classmethod
    def _is_known(cls, url: str) -> str:
        return of_schemes(url, "static:", "consul://", "consul+tls://")


class TlsSettings(Section):
    """Mutual TLS between services: all three files (PEM), or none.

    `{service}` in their names is filled with the process's service, or with `meshwright` when it
    is not one alone. The files are looked at every `reload_seconds`; new ones hold for new
    connections.
    """

    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    reload_seconds: float = Field(default=10, gt=0)

    @property
    def enabled(self) -> bool:
        """Whether services speak TLS to each other."""
        return self.certificate_file is not None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        files = (self.ca_file, self.certificate_file, self.key_file)
        if any(files) and not all(files):
            raise ValueError("needs all of ca_file, certificate_file and key_file, or none")
        return self


class IdentitySettings(Section):
    """Internal tokens: `keys_dir` holds `<service>.key` (own, private) and `trusted.json`.

    Refused logins and denied calls are counted for `denial_report_seconds` and reported to the
    audit log then, together.
    """

    keys_dir: Path = Path(".meshwright/keys")
    denial_report_seconds: float = Field(default=60, gt=0, le=3600)


class EncryptionSettings(Section):
    """Master keys: `ID:KEY` separated by commas, KEY 32 bytes in base64. The first one wraps.

    The others still unwrap what they wrapped before, until `meshwright keys rewrap` is done.
    """

    master_keys: str = Field(default="", repr=False)

    def parsed(self) -> dict[str, bytes]:
        """Return the keys by id, the current one first."""
        return parse_master_keys(self.master_keys)

    @field_validator("master_keys")
    @classmethod
    def _are_keys(cls, master_keys: str) -> str:
        parse_master_keys(master_keys)
        return master_keys


class QuotaSettings(Section):
    """How long what the directory says of a tenant's quota holds, in seconds.

    Without any answer for `last_good_seconds`, `when_unknown` decides what happens to new work.
    """

    fresh_seconds: float = Field(default=3, gt=0, le=4)
    last_good_seconds: float = Field(default=300, ge=0, le=300)
    when_unknown: Literal["refuse", "allow"] = "refuse"


class RpcSettings(Section):
    """The gRPC port of the process. Deadlines are seconds by "/package.Service/Method";
    their `*` is the least for every method that is not named and no stream.

    With `link`, calls between our processes share one stream for each pair of them, and the port
    takes such streams beside plain calls.
    """

    listen: str = "127.0.0.1:50051"
    link: bool = True
    reflection: bool = True
    maximum_concurrent_rpcs: int = Field(default=2000, ge=1)
    deadlines: dict[str, float] = {}

    @field_validator("listen")
    @classmethod
    def _is_address(cls, listen: str) -> str:
        return listen_address(listen)


class LifecycleSettings(Section):
    """What a process does, and how long the steps of its start and stop may take, in seconds.

    `work` names the background work that is done here, of what calls do not need beside them: all
    of it (`*`) unless others do it. Without `serve` a process is there for that alone: the registry
    is not told of it.
    """

    serve: bool = True
    work: tuple[str, ...] = ("*",)
    checks_timeout_seconds: float = Field(default=30, gt=0)
    drain_delay_seconds: float = Field(default=3, ge=0)
    join_timeout_seconds: float = Field(default=10, ge=0)
    grace_seconds: float = Field(default=25, ge=0)
    close_timeout_seconds: float = Field(default=5, gt=0)


class CommonSettings(BaseSettings):
    """What every process needs. A service adds its own section and sets `service`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="ignore"
    )
    service: ClassVar[ServiceName]

    database: DatabaseSettings = DatabaseSettings()
    redis: RedisSettings = RedisSettings()
    objects: ObjectSettings = ObjectSettings()
    events: EventSettings = EventSettings()
    dispatch: DispatchSettings = DispatchSettings()
    registry: RegistrySettings = RegistrySettings()
    tls: TlsSettings = TlsSettings()
    peers: dict[str, str] = {}
    identity: IdentitySettings = IdentitySettings()
    encryption: EncryptionSettings = EncryptionSettings()
    quotas: QuotaSettings = QuotaSettings()
    rpc: RpcSettings = RpcSettings()
    lifecycle: LifecycleSettings = LifecycleSettings()
    telemetry: TelemetrySettings = TelemetrySettings()

    @field_validator("peers")
    @classmethod
    def _name_peers(cls, peers: dict[str, str]) -> dict[str, str]:
        named = {name.lower().replace("_", "-"): target for name, target in peers.items()}
        unknown = sorted(named.keys() - set(SERVICE_NAMES))
        if unknown:
            raise ValueError(f"no such service: {', '.join(unknown)}")
        return named

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = InitSettingsSource(settings_cls, init_kwargs=_read_config_file())
        return init_settings, env_settings, file


S = TypeVar("S", bound=BaseSettings)


def load(settings: type[S]) -> S:
    """Return the settings from environment, file and defaults.

    Raises: SettingsError with one line per mistake, each naming the variable to mend.
    """
    _refuse_unknown_sections()
    try:
        return settings()
    except ValidationError as error:
        lines = [
            f"{variable_name(detail['loc'])}: {detail['msg'].removeprefix('Value error, ')}"
            for detail in error.errors(include_url=False, include_input=False)
        ]
        raise SettingsError("\n".join(lines)) from None


def variable_name(path: Iterable[str | int]) -> str:
    """Return the environment variable of a field: ("chat", "port") is MESHWRIGHT_CHAT__PORT."""
    return PREFIX + "__".join(str(part).upper() for part in path)


_SECRET_NAME: Final = re.compile(
    r"password|secret|token$|api_key|private|master_key", re.IGNORECASE
)
_URL_PASSWORD: Final = re.compile(r"(?<=://)([^/@\s:]*):[^@\s]*(?=@)")


def redacted(settings: BaseModel) -> dict[str, object]:
    """Return the settings as plain values, secrets and passwords in URLs replaced by `***`."""
    return {name: _redact(name, value) for name, value in settings.model_dump(mode="json").items()}


def _redact(name: str, value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _redact(str(key), item) for key, item in value.items()}
    if isinstance(value, list):
        return [_redact(name, item) for item in value]
    if isinstance(value, str):
        if value and _SECRET_NAME.search(name):
            return "***"
        return _URL_PASSWORD.sub(r"\1:***", value)
    return value


def _read_config_file() -> dict[str, object]:
    path = os.environ.get(CONFIG_VARIABLE)
    if not path:
        return {}
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{CONFIG_VARIABLE}: cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{CONFIG_VARIABLE}: {path} is not YAML: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingsError(f"{CONFIG_VARIABLE}: {path} must hold a mapping of sections")
    unknown = sorted(str(name) for name in content if name not in KNOWN_SECTIONS)
    if unknown:
        raise SettingsError(f"{CONFIG_VARIABLE}: {path}: no such section: {', '.join(unknown)}")
    return content


def _refuse_unknown_sections() -> None:
    mistakes = [
        f"{name}: no such section; sections are {', '.join(sorted(KNOWN_SECTIONS))}"
        for name in sorted(os.environ)
        if name.upper().startswith(PREFIX)
        and "__" in name
        and name[len(PREFIX) :].split("__", 1)[0].lower() not in KNOWN_SECTIONS
    ]
    if mistakes:
        raise SettingsError("\n".join(mistakes))
