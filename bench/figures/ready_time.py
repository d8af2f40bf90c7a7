"""How long the platform takes from its start to its `ready` line."""

from pathlib import Path

from bench.measurement import Measurement
from bench.platform_target import platform
from bench.processes import Placement
from bench.targets import RunningTarget, Target

NAME = "ready_time"
ABOUT = "from the start of `meshwright up` to its ready line; cold: with an empty data folder"


def measure(
    target: Target, *, upstream: RunningTarget, repeats: int, place: Placement, scratch: Path
) -> list[Measurement]:
    """Start cold once, then warm on the same data folder, as often as asked."""
    data = scratch / f"{NAME}-{target}"
    split = target is Target.PLATFORM_SPLIT

    def start() -> float:
        with platform(data, upstream_url=upstream.url, split=split, place=place) as running:
            return running.child.ready_seconds

    cold = start()
    measurements = []
    for repeat in range(repeats):
        values = {"warm_ready_seconds": start()}
        if repeat == 0:
            values["cold_ready_seconds"] = cold
        measurements.append(Measurement(NAME, target, repeat, values))
    return measurements
