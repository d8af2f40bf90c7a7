"""`meshwright users`: who is in a tenant, what they may do, whether they may come in."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from meshwright.session.v1 import directory_service_pb2 as pb
from meshwright.session.v1 import tenant_pb2
from meshwright.types.v1 import page_pb2
from meshwright_cli.commands.events.printing import show_json, show_table
from meshwright_cli.commands.tenants import limits, views
from meshwright_cli.commands.tenants.options import JsonOption, TenantArgument
from meshwright_cli.exits import CommandError
from meshwright_cli.operator_calls import Operator, operate
from meshwright_cli.options import DEFAULT_DATA, DataOption

app = typer.Typer(add_completion=False, no_args_is_help=True)
PAGE_SIZE = 200
UserArgument = Annotated[str, typer.Argument(help="The user's name or id.", show_default=False)]
RolesArgument = Annotated[
    list[str],
    typer.Argument(help="Roles: owner, admin, member, viewer, auditor.", show_default=False),
]


@app.callback()
def users() -> None:
    """List, create, disable and enable users of a tenant, and change their roles."""


@app.command("list")
def list_users(
    tenant: TenantArgument, data: DataOption = DEFAULT_DATA, as_json: JsonOption = False
) -> None:
    """List the users of a tenant by name."""

    async def ask(operator: Operator) -> list[tenant_pb2.User]:
        return await _users(operator, (await operator.tenant(tenant)).tenant_id)

    found = operate(data, ask)
    if as_json:
        show_json([views.user_content(one) for one in found])
        return
    columns = ("name", "roles", "state", "user", "created")
    show_table(*columns, rows=[views.user_row(one) for one in found])


@app.command()
def create(
    tenant: TenantArgument,
    name: Annotated[str, typer.Argument(help="The user's name.", show_default=False)],
    roles: RolesArgument,
    email: Annotated[str, typer.Option(help="E-mail address.")] = "",
    data: DataOption = DEFAULT_DATA,
    as_json: JsonOption = False,
) -> None:
    """Create a user with roles, and print its id."""

    async def make(operator: Operator) -> tenant_pb2.User:
        found = await operator.tenant(tenant)
        user = tenant_pb2.User(name=name, email=email, roles=roles)
        with operator.inside(found.tenant_id):
            return (await operator.directory.CreateUser(pb.CreateUserRequest(user=user))).user

    made = operate(data, make)
    if as_json:
        show_json(views.user_content(made))
        return
    sys.stdout.write(f"{made.user_id}\n")


@app.command()
def roles(
    tenant: TenantArgument,
    user: UserArgument,
    roles: RolesArgument,
    data: DataOption = DEFAULT_DATA,
    as_json: JsonOption = False,
) -> None:
    """Give a user these roles and no others. The last owner stays one."""
    change = tenant_pb2.User(roles=roles)
    _show(_change(data, tenant, user, change, "roles"), as_json=as_json)


@app.command()
def disable(
    tenant: TenantArgument,
    user: UserArgument,
    data: DataOption = DEFAULT_DATA,
    as_json: JsonOption = False,
) -> None:
    """Refuse a user's calls within 5 s and end its streams within 30 s."""
    change = tenant_pb2.User(disabled=True)
    _show(_change(data, tenant, user, change, "disabled"), as_json=as_json)


@app.command()
def enable(
    tenant: TenantArgument,
    user: UserArgument,
    data: DataOption = DEFAULT_DATA,
    as_json: JsonOption = False,
) -> None:
    """Let a disabled user call again."""
    change = tenant_pb2.User(disabled=False)
    _show(_change(data, tenant, user, change, "disabled"), as_json=as_json)


async def _users(operator: Operator, tenant_id: str) -> list[tenant_pb2.User]:
    found: list[tenant_pb2.User] = []
    token = ""
    with operator.inside(tenant_id):
        while True:
            page = page_pb2.PageRequest(page_size=PAGE_SIZE, page_token=token)
            answer = await operator.directory.ListUsers(pb.ListUsersRequest(page=page))
            found += answer.users
            token = answer.page.next_page_token
            if not token:
                return found


async def user_id_of(operator: Operator, tenant_id: str, name: str) -> str:
    """Return the id of a user by name or id. Raises: CommandError when there is none."""
    for one in await _users(operator, tenant_id):
        if name in (one.name, one.user_id):
            return one.user_id
    raise CommandError(
        f"there is no user {name!r} in this tenant; `meshwright users list` names all"
    )


def _change(
    data: Path, tenant: str, user: str, change: tenant_pb2.User, path: str
) -> tenant_pb2.User:
    async def make(operator: Operator) -> tenant_pb2.User:
        tenant_id = (await operator.tenant(tenant)).tenant_id
        change.user_id = await user_id_of(operator, tenant_id, user)
        request = pb.UpdateUserRequest(user=change, update_mask=limits.mask([path]))
        with operator.inside(tenant_id):
            return (await operator.directory.UpdateUser(request)).user

    return operate(data, make)


def _show(user: tenant_pb2.User, *, as_json: bool) -> None:
    if as_json:
        show_json(views.user_content(user))
        return
    state = "disabled" if user.disabled else "active"
    sys.stdout.write(f"{user.name} {','.join(user.roles)} {state}\n")
