"""`meshwright tenants move|delete`: where a tenant's rows are, and that none are left."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from meshwright.session.v1 import erasure_service_pb2, tenant_pb2
from meshwright.session.v1.erasure_service_pb2_grpc import ErasureServiceStub
from meshwright_cli.commands.events.printing import ask, show_json, show_table
from meshwright_cli.commands.tenants.options import JsonOption, TenantArgument, YesOption
from meshwright_cli.engines.attach import database_of
from meshwright_cli.engines.data_folder import DataFolderError
from meshwright_cli.environment import EMBEDDED, PlatformSettings
from meshwright_cli.exits import CommandError, Exit, refused
from meshwright_cli.operator_calls import Operator, operate
from meshwright_cli.options import DEFAULT_DATA, DataOption
from meshwright_common.errors import ServiceError
from meshwright_common.settings import SettingsError, load
from meshwright_common.storage.placement import place_everywhere


def move(
    tenant: TenantArgument,
    own_schema: Annotated[
        bool, typer.Option("--own-schema", help="Into a schema of the tenant's own.")
    ] = False,
    data: DataOption = DEFAULT_DATA,
    as_json: JsonOption = False,
) -> None:
    """Move the rows of an enterprise tenant into a schema of its own. Safe to repeat.

    Its readers notice nothing; its writers are asked to try again for a moment. A tenant with turns
    or tasks under way is not moved: suspend it first.
    """
    if not own_schema:
        raise refused("say where to: --own-schema is the only place there is")
    found = operate(data, lambda operator: operator.tenant(tenant))
    if found.plan != tenant_pb2.PLAN_ENTERPRISE:
        raise refused(
            f"{found.slug} is not of the enterprise plan, which alone has schemas of its own: "
            f"`meshwright tenants update {found.slug} --plan enterprise`"
        )
    try:
        settings = load(PlatformSettings).database
        database = database_of(data, settings) if settings.url == EMBEDDED else settings
        placed = asyncio.run(place_everywhere(database, found.tenant_id))
    except SettingsError as error:
        raise refused(str(error)) from None
    except DataFolderError as error:
        raise CommandError(str(error), Exit(error.exit_code)) from None
    except (ServiceError, OSError) as error:
        raise CommandError(str(error)) from None
    if as_json:
        show_json(
            {name: {"tables": list(one.tables), "rows": one.rows} for name, one in placed.items()}
        )
        return
    show_table(
        *("service", "tables", "rows"),
        rows=[(name, str(len(one.tables)), str(one.rows)) for name, one in placed.items()],
    )


def delete(tenant: TenantArgument, yes: YesOption = False, data: DataOption = DEFAULT_DATA) -> None:
    """Erase a tenant with everything in it for good; print the erasure's id."""

    async def erase(operator: Operator) -> str:
        found = await operator.tenant(tenant)
        if not ask(f"Erase the tenant {found.slug} with everything in it for good?", yes):
            return ""
        stub = ErasureServiceStub(operator.channels.open("session"))
        with operator.inside(found.tenant_id):
            begun = await stub.EraseTenant(
                erasure_service_pb2.EraseTenantRequest(confirm_slug=found.slug)
            )
        return begun.erasure.erasure_id

    erasure_id = operate(data, erase)
    if erasure_id:
        sys.stdout.write(f"{erasure_id}\n")
