"""A base URL that leads to no model: each way to be wrong is told as itself, and nothing leaks."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import httpx
import pytest

from meshwright_common.storage.embedded.process import free_port
from tests.platform_process import Platform, run_command, running_platform

CANARY: Final = "sk-canary-of-the-provider"
PAGE: Final = b"<!doctype html><title>Welcome to nginx!</title>"


class _Wrong(BaseHTTPRequestHandler):
    """Answers by the first part of the path: a status, with a page or an error of JSON."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        status = int(self.path.split("/")[1])
        body = PAGE
        if status == 401:
            body = json.dumps({"error": {"message": f"Incorrect API key: {CANARY}"}}).encode()
        self.send_response(status)
        self.send_header("content-type", "text/html" if body is PAGE else "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def wrong_url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Wrong) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def misconfigured(tmp_path_factory: pytest.TempPathFactory, wrong_url: str) -> Iterator[Platform]:
    """A platform whose every provider is wrong in its own way."""
    urls = {
        "page": f"{wrong_url}/200/v1",
        "no-path": f"{wrong_url}/404/v1",
        "no-key": f"{wrong_url}/401/v1",
        "no-server": f"http://127.0.0.1:{free_port()}/v1",
        "no-host": "http://nowhere.invalid/v1",
    }
    deployments = [
        {"name": name, "model": name, "base_url": url, "api_key": CANARY}
        for name, url in urls.items()
    ]
    folder = tmp_path_factory.mktemp("wrong")
    file = folder / "meshwright.yaml"
    file.write_text(json.dumps({"models": {"deployments": deployments, "default": "offline"}}))
    with running_platform(folder / "data", environment={"MESHWRIGHT_CONFIG": str(file)}) as running:
        yield running


@pytest.fixture
def client(misconfigured: Platform) -> Iterator[httpx.Client]:
    with misconfigured.client() as opened:
        yield opened


@pytest.mark.promise("START-01")
@pytest.mark.parametrize(
    ("model", "status", "code"),
    [
        ("page", 502, "PROVIDER_PROTOCOL"),
        ("no-path", 502, "PROVIDER_PROTOCOL"),
        ("no-key", 502, "PROVIDER_CREDENTIALS"),
        ("no-server", 503, "PROVIDER_UNAVAILABLE"),
        ("no-host", 503, "PROVIDER_UNAVAILABLE"),
    ],
)
def test_a_wrong_base_url_is_told_with_the_deployment_and_without_its_key(
    client: httpx.Client, model: str, status: int, code: str
) -> None:
    native = client.post("/api/v1/chat", json={"message": "Hi", "model": model, "stream": False})
    assert (native.status_code, native.json()["code"]) == (status, code), native.text
    assert f"'{model}'" in native.json()["detail"]
    assert "nginx" not in native.text
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
    for stream in (False, True):
        openai = client.post("/v1/chat/completions", json={**body, "stream": stream})
        assert openai.status_code == status
        assert openai.json()["error"]["code"] == code.lower()
        assert CANARY not in native.text + openai.text
    turn = client.get(f"/api/v1/turns/{native.json()['metadata']['turn_id']}").json()
    assert turn["state"] == "failed"


@pytest.mark.promise("START-01")
def test_the_other_models_and_the_process_do_not_suffer(
    misconfigured: Platform, client: httpx.Client
) -> None:
    answer = client.post("/api/v1/chat", json={"message": "What is 2+2?", "stream": False})
    assert answer.status_code == 200
    assert "4" in answer.json()["answer"]
    logs = [path.read_text() for path in (misconfigured.data / "logs").glob("*.log")]
    assert not [log for log in logs if CANARY in log]


@pytest.mark.promise("START-02")
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://models/v1", "must start with http"),
        ("localhost:8000/v1", "must start with http"),
        ("", "must start with http"),
        ("http://user:secret-word@models/v1", "user and password"),
    ],
)
def test_a_base_url_that_is_none_stops_the_start_by_name(
    tmp_path: Path, url: str, said: str
) -> None:
    deployments = json.dumps([{"name": "m", "model": "m", "base_url": url}])
    data = tmp_path / "data"
    done = run_command(
        "up",
        "--data",
        str(data),
        environment={"MESHWRIGHT_MODELS__DEPLOYMENTS": deployments},
    )
    assert done.returncode == 2, done.stderr
    assert "MESHWRIGHT_MODELS__DEPLOYMENTS__0__BASE_URL" in done.stderr
    assert said in done.stderr
    assert "secret-word" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not data.exists()
