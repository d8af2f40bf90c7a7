"""`meshwright up`: start the platform on a data folder."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from meshwright_cli.detach import run_detached
from meshwright_cli.engines.data_folder import DataFolder, DataFolderError, own
from meshwright_cli.environment import refuse_taken_address
from meshwright_cli.exits import HELP, CommandError, Exit, refused
from meshwright_cli.logfile import LogFile
from meshwright_cli.options import DEFAULT_DATA, DataOption
from meshwright_cli.plan import Plan
from meshwright_cli.platform import check_settings, run_platform
from meshwright_common.errors import ServiceError
from meshwright_common.identity.keys import KeyFileError
from meshwright_common.lifecycle import StartRefused
from meshwright_common.rpc.server import AddressError, ServiceTableError
from meshwright_common.runner import configure_telemetry, run_loop
from meshwright_common.settings import SettingsError
from meshwright_common.storage.embedded.process import LOOPBACK, EngineFailed, free_port

app = typer.Typer()
PLATFORM_LOG = "platform.log"


@app.command(epilog=HELP)
def up(
    data: DataOption = DEFAULT_DATA,
    port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            show_default="8080",
            help="Port of the HTTP gateway; also MESHWRIGHT_GATEWAY__PORT.",
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            show_default=LOOPBACK,
            help="Address of the HTTP gateway; anything else than the loopback opens it to the "
            "network, without TLS.",
        ),
    ] = None,
    split: Annotated[
        bool, typer.Option("--split", help="One process per service instead of one for all.")
    ] = False,
    instances: Annotated[
        int,
        typer.Option(
            min=1,
            max=16,
            help="With --split: processes of each service but the gateway. Calls are spread over "
            "them; `kill -USR1` to this process restarts them one after the other.",
        ),
    ] = 1,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return when it is ready; it runs on.")
    ] = False,
) -> None:
    """Start the platform: engines, services, gateway. Runs until SIGTERM or Ctrl-C, then drains.

    The last line of the output is `ready URL key=…`; DATA/endpoint.json says the same.
    """
    if instances > 1 and not split:
        raise refused("--instances needs --split: one process holds each service once")
    if detach:
        run_detached(data, _arguments(host, port, split, instances))
        return
    try:
        code = _run(data, host, port, instances if split else 0)
    except DataFolderError as error:
        raise CommandError(str(error), Exit(error.exit_code)) from None
    except (SettingsError, AddressError) as error:
        raise refused(str(error)) from None
    except (EngineFailed, ServiceError, KeyFileError, StartRefused, ServiceTableError) as error:
        raise CommandError(str(error)) from None
    except OSError as error:
        raise CommandError(f"{error.filename or data}: {error.strerror}") from None
    raise typer.Exit(code)


def _run(data: Path, host: str | None, port: int | None, instances: int) -> int:
    """Run the platform; with 0 `instances` all services are in one process."""
    settings = check_settings()
    host = host or settings.gateway.host
    port = port or settings.gateway.port or free_port()
    with own(data) as folder:
        refuse_taken_address(host, port)
        _say(f"meshwright on {folder.path}")
        log = _open_log(folder)
        configure_telemetry("meshwright", settings, log_sink=log)
        plan = Plan(
            folder=folder,
            host=host,
            port=port,
            split=instances > 0,
            log=log,
            tell=_say,
            instances=instances,
        )
        return run_loop(run_platform(plan, settings))


def _open_log(folder: DataFolder) -> LogFile:
    folder.logs.mkdir(mode=0o700, exist_ok=True)
    return LogFile(folder.logs / PLATFORM_LOG)


def _say(line: str) -> None:
    # After `--detach` nobody reads any more.
    with suppress(BrokenPipeError):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def _arguments(host: str | None, port: int | None, split: bool, instances: int) -> list[str]:
    arguments = ["--split", "--instances", str(instances)] if split else []
    arguments += ["--host", host] if host else []
    return [*arguments, "--port", str(port)] if port else arguments
