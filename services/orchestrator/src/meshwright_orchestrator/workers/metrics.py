"""How dispatch does, in numbers."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from meshwright_common.telemetry import metric_names

BACKLOG: Final = Gauge(
    metric_names.TASK_BACKLOG,
    "Tasks of the whole installation that wait for a worker: every process says the same.",
    ["lane"],
)
FAILED_DISPATCHES: Final = Counter(
    metric_names.TASK_FAILED_DISPATCHES, "Batches of tasks that the work queues did not take."
)
DISPATCH_SECONDS: Final = Histogram(
    metric_names.TASK_DISPATCH_SECONDS,
    "Time from the acceptance of a submitted task to its beginning.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
)
TASKS_RUNNING: Final = Gauge(
    metric_names.TASKS_RUNNING, "Tasks that this process works on, asked for or submitted."
)
SCHEDULE_DELAY_SECONDS: Final = Histogram(
    metric_names.SCHEDULE_DELAY_SECONDS,
    "Time from the moment of a schedule to the start of its run.",
    buckets=(0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200),
)
SCHEDULE_RUNS: Final = Counter(
    metric_names.SCHEDULE_RUNS, "Tasks and workflows that schedules started from this process."
)
SCHEDULE_FAILURES: Final = Counter(
    metric_names.SCHEDULE_FAILURES,
    "Looks at a due schedule that failed because something was away; it is looked at again.",
)
AGENT_INSTANCES: Final = Gauge(
    metric_names.AGENT_INSTANCES,
    "Instances of agents that joined, by agent and state: every process says the same.",
    ["agent", "state"],
)
AGENT_WEIGHT: Final = Gauge(
    metric_names.AGENT_WEIGHT, "Weights of an agent's online instances, added up.", ["agent"]
)
AGENT_PENDING: Final = Gauge(
    metric_names.AGENT_PENDING_TASKS,
    "Tasks that the instances of an agent say they have, added up.",
    ["agent"],
)
