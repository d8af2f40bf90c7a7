"""What `meshwright events tail agent_status` hears: agents telling how they do."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from meshwright_cli.commands.events.operator import Backbone
from meshwright_common.dispatch.backbone import open_dispatch


async def watch_statuses(backbone: Backbone, count: int) -> None:
    """Print each status as a line of JSON as it comes; after `count` of them return, 0: never."""
    printed = 0
    dispatch_settings = backbone.settings.dispatch
    async with (
        open_dispatch(dispatch_settings, backbone.database, ()) as dispatch,
        dispatch.board.subscribe() as statuses,
    ):
        async for status in statuses:
            sys.stdout.write(json.dumps(asdict(status), ensure_ascii=False) + "\n")
            sys.stdout.flush()
            printed += 1
            if printed == count:
                return
