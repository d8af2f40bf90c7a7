"""What `up` decides for the services' settings, and where it leaves the word to the operator."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from meshwright_cli.engines.data_folder import DataFolder
from meshwright_cli.engines.running import Engine, Engines
from meshwright_cli.exits import refused
from meshwright_cli.members import Member
from meshwright_common.settings import PREFIX, SERVICE_NAMES, CommonSettings, EncryptionSettings
from meshwright_common.storage.embedded.process import LOOPBACK

EMBEDDED: Final = "embedded:"
ANY_PORT: Final = f"{LOOPBACK}:0"


class GatewayAddress(BaseModel):
    """Where the gateway listens unless the command line says otherwise."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    host: str = LOOPBACK
    port: int = 8080


class PlatformSettings(CommonSettings):
    """What the process of `up` itself reads."""

    gateway: GatewayAddress = GatewayAddress()


def wanted_engines(settings: CommonSettings) -> list[Engine]:
    """Return the engines that the operator has not named an address of his own for."""
    sections: dict[Engine, str] = {"postgres": settings.database.url, "valkey": settings.redis.url}
    return [engine for engine, url in sections.items() if url == EMBEDDED]


def keys_folder(folder: DataFolder, settings: CommonSettings) -> Path:
    """Return where the signing keys are: below the data folder unless the operator says where."""
    named = "keys_dir" in settings.identity.model_fields_set
    return settings.identity.keys_dir if named else folder.keys


def encryption_settings(folder: DataFolder, settings: CommonSettings) -> EncryptionSettings:
    """Return the master keys: those of the data folder unless the operator names others."""
    if settings.encryption.master_keys:
        return settings.encryption
    return EncryptionSettings(master_keys=folder.secrets.master_keys)


def engine_variables(engines: Engines, settings: CommonSettings) -> dict[str, str]:
    """Return where our engines, objects and keys are, except what the operator has named."""
    variables = engines.environment()
    encryption = encryption_settings(engines.folder, settings)
    variables["MESHWRIGHT_ENCRYPTION__MASTER_KEYS"] = encryption.master_keys
    if settings.objects.url != EMBEDDED:
        del variables["MESHWRIGHT_OBJECTS__URL"]
    return {
        **variables,
        "MESHWRIGHT_IDENTITY__KEYS_DIR": str(keys_folder(engines.folder, settings)),
    }


def lifecycle_variables(settings: CommonSettings) -> dict[str, str]:
    """Return how long a stop takes here: no load balancer has to notice it first."""
    if "drain_delay_seconds" in settings.lifecycle.model_fields_set:
        return {}
    return {"MESHWRIGHT_LIFECYCLE__DRAIN_DELAY_SECONDS": "0"}


def gateway_variables(host: str, port: int) -> dict[str, str]:
    """Return where the gateway listens."""
    return {"MESHWRIGHT_GATEWAY__HOST": host, "MESHWRIGHT_GATEWAY__PORT": str(port)}


def together_variables(settings: CommonSettings) -> dict[str, str]:
    """Return the variables of all services in one process."""
    variables = {peer_variable(service): "local:" for service in SERVICE_NAMES}
    if "listen" not in settings.rpc.model_fields_set:
        variables["MESHWRIGHT_RPC__LISTEN"] = ANY_PORT
    return variables


def split_variables(
    members: Sequence[Member], member: Member, settings: CommonSettings
) -> dict[str, str]:
    """Return the variables of one member: where it listens, also for whoever collects metrics, and
    where it finds the others.

    With a registry they find each other there; without one over the loopback.
    """
    peers = {} if has_registry(settings) else _peers(members)
    return {
        **peers,
        "MESHWRIGHT_RPC__LISTEN": member.address,
        "MESHWRIGHT_TELEMETRY__METRICS_LISTEN": member.metrics,
    }


def parent_variables(members: Sequence[Member]) -> dict[str, str]:
    """Return the variables of the process that watches over them."""
    return {**_peers(members), "MESHWRIGHT_RPC__LISTEN": ANY_PORT}


def has_registry(settings: CommonSettings) -> bool:
    """Return whether processes announce themselves somewhere."""
    return not settings.registry.url.startswith("static:")


def _peers(members: Sequence[Member]) -> dict[str, str]:
    addresses: dict[str, list[str]] = {}
    for one in members:
        addresses.setdefault(one.service, []).append(one.address)
    return {
        peer_variable(service): f"ipv4:{listed[0]}"
        if len(listed) == 1
        else f"static:///{','.join(listed)}"
        for service, listed in addresses.items()
    }


def peer_variable(service: str) -> str:
    """Return the variable that says where a service is."""
    return f"{PREFIX}PEERS__{service.replace('-', '_').upper()}"


@contextmanager
def applied(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables of this process inside the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def refuse_taken_address(host: str, port: int) -> None:
    """Do nothing when the address can be listened on. Raises: CommandError naming the option."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise refused(
                    f"port {port} of {host} is in use: choose another one with --port, or stop "
                    "what listens there"
                ) from None
            if error.errno == errno.EACCES:
                raise refused(
                    f"port {port} of {host} needs rights that this user lacks: choose one above "
                    "1023 with --port"
                ) from None
            raise refused(f"--port {port}: cannot listen on {host}: {error.strerror}") from None
