"""`meshwright api-keys`: keys that act as users of a tenant."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from meshwright.session.v1 import directory_service_pb2 as pb
from meshwright.session.v1 import tenant_pb2
from meshwright.types.v1 import page_pb2
from meshwright_cli.commands.events.operator import known_id
from meshwright_cli.commands.events.printing import show_json, show_table
from meshwright_cli.commands.tenants.options import JsonOption, TenantArgument
from meshwright_cli.commands.tenants.views import moment
from meshwright_cli.commands.users import UserArgument, user_id_of
from meshwright_cli.operator_calls import Operator, operate
from meshwright_cli.options import DEFAULT_DATA, DataOption

app = typer.Typer(add_completion=False, no_args_is_help=True)
PAGE_SIZE = 200


@app.callback()
def api_keys() -> None:
    """List, create and revoke API keys of a tenant."""


@app.command("list")
def list_keys(
    tenant: TenantArgument, data: DataOption = DEFAULT_DATA, as_json: JsonOption = False
) -> None:
    """List the API keys of a tenant, newest first, without their secrets."""
    found = operate(data, lambda operator: _keys(operator, tenant))
    if as_json:
        show_json([_content(one) for one in found])
        return
    show_table(
        *("key", "prefix", "label", "user", "state", "created", "expires"),
        rows=[
            (
                one.api_key_id,
                one.prefix,
                one.label,
                one.user_id,
                "revoked" if one.revoked else "active",
                moment(one.create_time),
                moment(one.expire_time) if one.HasField("expire_time") else "",
            )
            for one in found
        ],
    )


@app.command()
def create(
    tenant: TenantArgument,
    user: UserArgument,
    label: Annotated[str, typer.Option(help="To recognise it by.")] = "",
    data: DataOption = DEFAULT_DATA,
    as_json: JsonOption = False,
) -> None:
    """Create an API key that acts as a user, and print it: it is shown this once."""

    async def make(operator: Operator) -> pb.CreateApiKeyResponse:
        tenant_id = (await operator.tenant(tenant)).tenant_id
        user_id = await user_id_of(operator, tenant_id, user)
        with operator.inside(tenant_id):
            return await operator.directory.CreateApiKey(
                pb.CreateApiKeyRequest(user_id=user_id, label=label)
            )

    made = operate(data, make)
    if as_json:
        show_json({**_content(made.api_key), "secret": made.secret})
        return
    sys.stdout.write(f"{made.secret}\n")


@app.command()
def revoke(
    tenant: TenantArgument,
    api_key_id: Annotated[
        str, typer.Argument(help="The key's id.", show_default=False, callback=known_id)
    ],
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Revoke an API key for good: calls are refused within 5 s, streams end within 30 s."""

    async def make(operator: Operator) -> None:
        tenant_id = (await operator.tenant(tenant)).tenant_id
        with operator.inside(tenant_id):
            await operator.directory.RevokeApiKey(pb.RevokeApiKeyRequest(api_key_id=api_key_id))

    operate(data, make)


async def _keys(operator: Operator, tenant: str) -> list[tenant_pb2.ApiKey]:
    found: list[tenant_pb2.ApiKey] = []
    token = ""
    tenant_id = (await operator.tenant(tenant)).tenant_id
    with operator.inside(tenant_id):
        while True:
            page = page_pb2.PageRequest(page_size=PAGE_SIZE, page_token=token)
            answer = await operator.directory.ListApiKeys(pb.ListApiKeysRequest(page=page))
            found += answer.api_keys
            token = answer.page.next_page_token
            if not token:
                return found


def _content(key: tenant_pb2.ApiKey) -> dict[str, object]:
    return {
        "api_key_id": key.api_key_id,
        "prefix": key.prefix,
        "label": key.label,
        "user_id": key.user_id,
        "permissions": list(key.permissions),
        "revoked": key.revoked,
        "create_time": moment(key.create_time),
        "expire_time": moment(key.expire_time) if key.HasField("expire_time") else None,
    }
