"""A real Prometheus looks at a platform of a process a service, also while its broker is away."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import yaml

from meshwright_common.settings import SERVICE_NAMES
from meshwright_common.storage.embedded.process import EngineThread
from meshwright_common.telemetry import metric_names
from meshwright_common.testing.servers.kafka import KafkaServer
from meshwright_common.testing.servers.prometheus import PrometheusServer
from meshwright_common.testing.waiting import eventually
from tests.asking import DOCUMENTS
from tests.platform_process import Platform, running_platform
from tests.traces import TRACE_FILE, every_span

SHIPPED: Final = Path(__file__).resolve().parents[2] / "infra" / "observability"
EVERY_SECONDS: Final = 1
EVERY: Final = f"{EVERY_SECONDS}s"
ALERT: Final = "MeshwrightBrokerAway"
WITH_TRACES: Final = (
    metric_names.HTTP_SERVER_SECONDS,
    metric_names.RPC_SERVER_SECONDS,
    metric_names.MODEL_CALL_SECONDS,
    metric_names.MODEL_FIRST_TOKEN_SECONDS,
)
"""Histograms whose exemplars name traces."""
PAUSE_SECONDS: Final = 0.5
"""Between two turns of the load."""


@pytest.mark.asyncio
@pytest.mark.promise("OPS-METRIC-04")
@pytest.mark.timeout(300)
async def test_each_panel_has_data_and_a_stopped_broker_is_told_and_found_again(
    data_folder: Path, tmp_path: Path
) -> None:
    """Issue 7, Must show. The expressions are those that are shipped; only `for` is shorter."""
    kafka, thread = KafkaServer(tmp_path / "kafka"), EngineThread()
    await thread.run(kafka.start)
    try:
        environment = {**kafka.variables, TRACE_FILE: str(tmp_path / "traces.jsonl")}
        with running_platform(data_folder, split=True, environment=environment) as platform:
            configuration = configured(tmp_path, data_folder / "metrics-targets.json")
            prometheus = PrometheusServer(tmp_path / "prometheus", configuration)
            await thread.run(prometheus.start)
            try:
                async with loaded(platform), httpx.AsyncClient(base_url=prometheus.url) as asked:
                    await look(asked, platform)
                    await see_traces(asked, tmp_path / "traces.jsonl")
                    await thread.run(kafka.pause)
                    await eventually(lambda: fires(asked), timeout_seconds=60)
                    await thread.run(kafka.resume)
                    await eventually(lambda: is_quiet(asked), timeout_seconds=60)
            finally:
                prometheus.stop()
    finally:
        kafka.stop()
        thread.close()


async def look(asked: httpx.AsyncClient, platform: Platform) -> None:
    """See each process, and wait until each query of each dashboard has an answer."""

    async def all_are_scraped() -> bool:
        found = await query(asked, 'up{job="meshwright"} == 1')
        return {one["metric"]["service"] for one in found} == set(SERVICE_NAMES)

    await eventually(all_are_scraped, timeout_seconds=30)
    await use_everything(platform)
    left = dict(questions())
    assert len(left) > 100

    async def all_have_data() -> bool:
        # New data comes no sooner.
        await asyncio.sleep(EVERY_SECONDS)
        for where, expr in list(left.items()):
            if await query(asked, expr):
                del left[where]
        return not left

    try:
        await eventually(all_have_data, timeout_seconds=45)
    except AssertionError:
        assert left == {}


async def see_traces(asked: httpx.AsyncClient, file: Path) -> None:
    """Wait until histograms lead to traces that were recorded."""

    async def all_lead_to_one() -> bool:
        recorded = {span.trace_id for span in every_span(file)}
        return all([recorded & await exemplars(asked, name) for name in WITH_TRACES])

    await eventually(all_lead_to_one, timeout_seconds=30)


async def exemplars(asked: httpx.AsyncClient, name: str) -> set[str]:
    """Return the traces that the buckets of a histogram lead to."""
    asked_for = {"query": f"{name}_bucket", "start": "0", "end": str(2**32)}
    answer = (await asked.get("/api/v1/query_exemplars", params=asked_for)).json()
    assert answer["status"] == "success", answer
    return {one["labels"]["trace_id"] for series in answer["data"] for one in series["exemplars"]}


async def use_everything(platform: Platform) -> None:
    """Do once what the load does not: a document, a task."""
    async with client(platform) as http:
        files = {
            "file": ("tides.md", b"# Tides\n\nThe tide at Rostock is 20 cm.\n", "text/markdown")
        }
        (await http.post(DOCUMENTS, files=files)).raise_for_status()
        task = {"agent": "chat", "message": "Hello!"}
        (await http.post("/api/v1/tasks", json=task)).raise_for_status()


@contextlib.asynccontextmanager
async def loaded(platform: Platform) -> AsyncIterator[None]:
    """Ask one question after the other inside the block; each has to be answered."""

    async def ask() -> None:
        async with client(platform) as http:
            while True:
                answer = await http.post(
                    "/api/v1/chat", json={"message": "What is 6 * 7?", "stream": False}
                )
                assert answer.status_code == 200, answer.text
                await asyncio.sleep(PAUSE_SECONDS)

    # house: naked-task: ended and awaited below
    asking = asyncio.create_task(ask())
    try:
        yield
        # An answer that failed has ended it.
        assert not asking.done()
    finally:
        asking.cancel()
        await asyncio.wait({asking})


def client(platform: Platform) -> httpx.AsyncClient:
    """Return a client of the platform's first user."""
    headers = {"authorization": f"Bearer {platform.api_key}"}
    return httpx.AsyncClient(base_url=platform.url, headers=headers, timeout=30)


async def query(asked: httpx.AsyncClient, expr: str) -> list[dict[str, Any]]:
    """Return the series of an expression now."""
    answer = (await asked.post("/api/v1/query", data={"query": expr})).json()
    assert answer["status"] == "success", answer
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found


async def alerts(asked: httpx.AsyncClient) -> list[dict[str, Any]]:
    """Return the alerts that are pending or fire, after the next evaluation."""
    await asyncio.sleep(EVERY_SECONDS)
    found: list[dict[str, Any]] = (await asked.get("/api/v1/alerts")).json()["data"]["alerts"]
    return found


async def fires(asked: httpx.AsyncClient) -> bool:
    """Return whether the alert fires, which wakes somebody."""
    return any(
        one["labels"]["alertname"] == ALERT and one["state"] == "firing"
        for one in await alerts(asked)
    )


async def is_quiet(asked: httpx.AsyncClient) -> bool:
    """Return whether the alert is over."""
    return all(one["labels"]["alertname"] != ALERT for one in await alerts(asked))


def questions() -> Iterator[tuple[str, str]]:
    """Yield what each panel asks, as Grafana would with all variables at "All"."""
    for file in sorted((SHIPPED / "grafana" / "dashboards").glob("*.json")):
        board = json.loads(file.read_text())
        names = [one["name"] for one in board["templating"]["list"] if one["type"] == "query"]
        for panel in board["panels"]:
            for target in panel.get("targets", ()):
                expr = target["expr"].replace("$__rate_interval", "1m")
                for name in names:
                    expr = expr.replace(f"${name}", ".*")
                yield f"{file.stem}: {panel['title']} {target['refId']}", expr


def configured(folder: Path, targets: Path) -> Path:
    """Write what is shipped for the targets of a test, in a hurry; return the configuration."""
    configuration = yaml.safe_load((SHIPPED / "prometheus" / "prometheus.yml").read_text())
    configuration["global"] = {
        "scrape_interval": EVERY,
        "scrape_timeout": EVERY,
        "evaluation_interval": EVERY,
    }
    (job,) = configuration["scrape_configs"]
    job["file_sd_configs"] = [{"files": [str(targets)]}]
    rules = folder / "rules"
    rules.mkdir()
    configuration["rule_files"] = [str(rules / "*.yml")]
    for file in (SHIPPED / "prometheus" / "rules").glob("*.yml"):
        groups = yaml.safe_load(file.read_text())
        for group in groups["groups"]:
            group["interval"] = EVERY
            for rule in group["rules"]:
                if "for" in rule:
                    rule["for"] = "3s"
        (rules / file.name).write_text(yaml.safe_dump(groups))
    written = folder / "prometheus.yml"
    written.write_text(yaml.safe_dump(configuration))
    return written
