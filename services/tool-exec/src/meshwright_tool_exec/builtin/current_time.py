"""Current time in a named zone."""

from typing import Final
from zoneinfo import ZoneInfo

from meshwright_common.clock import Clock
from meshwright_tool_exec.domain.errors import ToolFailed
from meshwright_tool_exec.domain.models import CallScope, Effect, ToolOutput, ToolSpec
from meshwright_tool_exec.domain.registry import Tool

SPEC: Final = ToolSpec(
    name="current_time",
    description="Tell the current date, time and weekday in a time zone (IANA name).",
    input_schema={
        "type": "object",
        "properties": {
            "zone": {
                "type": "string",
                "maxLength": 64,
                "pattern": "^[A-Za-z0-9_+/-]*$",
                "description": "IANA zone such as Europe/Berlin or Asia/Shanghai. Default UTC.",
            }
        },
        "additionalProperties": False,
    },
    effect=Effect.READ_ONLY,
    timeout_seconds=2.0,
)


def current_time(clock: Clock) -> Tool:
    """Return the tool; `clock` gives the moment."""

    async def run(arguments: dict[str, object], _scope: CallScope) -> ToolOutput:
        name = str(arguments.get("zone") or "UTC")
        try:
            zone = ZoneInfo(name)
        except (KeyError, ValueError, OSError) as error:
            raise ToolFailed(f"{name!r} is not a known time zone; try Europe/Berlin") from error
        moment = clock.now().astimezone(zone)
        return ToolOutput(
            {
                "zone": name,
                "time": moment.isoformat(timespec="seconds"),
                "weekday": moment.strftime("%A"),
            }
        )

    return Tool(SPEC, run)
