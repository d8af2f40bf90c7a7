"""`meshwright keys status`: which keys there are, how old and how often used."""

from __future__ import annotations

from collections.abc import Sequence

from meshwright_cli.commands.events.moments import duration, shown
from meshwright_cli.commands.events.options import JsonOption
from meshwright_cli.commands.events.printing import show_json, show_table
from meshwright_cli.commands.keys.operator import Keys, TenantOption, operate
from meshwright_cli.options import DEFAULT_DATA, DataOption
from meshwright_common.encryption.rotation import DataKeyState, data_keys, foreign_master_keys
from meshwright_common.events.inspection import age_of


def status(
    tenant: TenantOption = "", data: DataOption = DEFAULT_DATA, as_json: JsonOption = False
) -> None:
    """Say which master keys are set and used, and which data keys each tenant has.

    A data key is followed by another one by itself after 90 days, or after 2^30 uses.
    """

    async def look(keys: Keys) -> tuple[str, Sequence[str], dict[str, int], list[DataKeyState]]:
        states = await data_keys(keys.database, await keys.tenant_of(tenant))
        foreign = await foreign_master_keys(keys.database, keys.masters)
        return keys.masters.current, keys.masters.ids, foreign, list(states)

    current, ids, foreign, states = operate(data, look)
    if as_json:
        show_json(
            {
                "master_key": current,
                "master_keys": list(ids),
                "tenants_by_other_master_key": foreign,
                "data_keys": [_content(state) for state in states],
            }
        )
        return
    lines = [f"master key {current}: wraps new keys"]
    lines += [
        f"master key {name}: wraps none, it can be taken out of the settings"
        for name in ids[1:]
        if name not in foreign
    ]
    for name, tenants in foreign.items():
        advice = "" if name in ids else ", AND IS NOT SET: what they stored does not open"
        lines.append(f"master key {name}: wraps keys of {tenants} tenants{advice}")
    show_table(rows=[(line,) for line in lines])
    seals = {state.tenant_id: state.version for state in states if state.usable}
    columns = ("tenant", "version", "master key", "age", "uses", "")
    show_table(*columns, rows=[_row(state, seals[state.tenant_id]) for state in states])


def _row(state: DataKeyState, seals: int) -> tuple[str, ...]:
    does = "seals" if state.version == seals else "opens"
    return (
        state.tenant_id,
        str(state.version),
        state.master_key,
        duration(age_of(state.created_at)),
        str(state.seals),
        does if state.usable else "seals in a moment",
    )


def _content(state: DataKeyState) -> dict[str, object]:
    return {
        "tenant_id": state.tenant_id,
        "version": state.version,
        "master_key": state.master_key,
        "create_time": shown(state.created_at),
        "uses": state.seals,
        "usable": state.usable,
    }
