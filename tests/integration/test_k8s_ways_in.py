"""What stands before the gateways lets streams live, speaks TLS 1.3, and reaches them alone."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from meshwright_gateway.settings import GatewaySection
from tests.manifests import Arrangement

pytestmark = pytest.mark.timeout(120)
"""The first one renders for all, on a busy machine."""
Arrangements = Mapping[str, Arrangement]
ALB = "alb.ingress.kubernetes.io"
NGINX = "nginx.ingress.kubernetes.io"


def keep_alive(arrangement: Arrangement) -> int:
    """Return how long gateways keep an idle connection, in seconds."""
    data = arrangement.of_kind("ConfigMap")["meshwright-settings"]["data"]
    return int(data["MESHWRIGHT_GATEWAY__KEEP_ALIVE_SECONDS"])


def longest_silence() -> float:
    """Return how long a stream or a WebSocket that lives may be silent, in seconds."""
    gateway = GatewaySection()
    return max(gateway.heartbeat_seconds, gateway.websocket_ping_seconds)


@pytest.mark.promise("OPS-K8S-14")
@pytest.mark.parametrize("name", ["dev", "prod"])
def test_the_load_balancer_ends_no_stream_that_lives(arrangements: Arrangements, name: str) -> None:
    ingress = arrangements[name].of_kind("Ingress")["gateway"]
    notes = ingress["metadata"]["annotations"]
    assert notes[f"{ALB}/ssl-policy"] == "ELBSecurityPolicy-TLS13-1-3-2021-06"
    balancer = attributes(notes[f"{ALB}/load-balancer-attributes"])
    idle = int(balancer["idle_timeout.timeout_seconds"])
    assert idle >= 2 * longest_silence()
    assert keep_alive(arrangements[name]) > idle
    group = attributes(notes[f"{ALB}/target-group-attributes"])
    assert (group["stickiness.enabled"], group["stickiness.type"]) == ("true", "lb_cookie")
    assert notes[f"{ALB}/healthcheck-path"] == "/health/ready"
    assert ingress["spec"]["tls"][0]["hosts"] == [ingress["spec"]["rules"][0]["host"]]


@pytest.mark.promise("OPS-K8S-14")
def test_nginx_buffers_nothing_and_ends_no_stream_that_lives(arrangements: Arrangements) -> None:
    arrangement = arrangements["dev-ingress-nginx"]
    notes = arrangement.of_kind("Ingress")["gateway"]["metadata"]["annotations"]
    assert notes[f"{NGINX}/proxy-buffering"] == "off"
    assert notes[f"{NGINX}/proxy-request-buffering"] == "off"
    for way in ("read", "send"):
        assert int(notes[f"{NGINX}/proxy-{way}-timeout"]) >= 2 * longest_silence()
    assert notes[f"{NGINX}/affinity"] == "cookie"
    mebibytes = int(notes[f"{NGINX}/proxy-body-size"].removesuffix("m"))
    assert mebibytes * 1024 * 1024 > GatewaySection().upload_limit_bytes
    # Its default is 60 s.
    assert keep_alive(arrangement) > 60


@pytest.mark.promise("OPS-K8S-14")
def test_a_route_of_the_gateway_api_sets_no_limit_to_streams(arrangements: Arrangements) -> None:
    arrangement = arrangements["dev-gateway-api"]
    (rule,) = arrangement.of_kind("HTTPRoute")["gateway"]["spec"]["rules"]
    assert rule["timeouts"] == {"request": "0s", "backendRequest": "0s"}
    (listener,) = arrangement.of_kind("Gateway")["meshwright"]["spec"]["listeners"]
    assert (listener["protocol"], listener["tls"]["mode"]) == ("HTTPS", "Terminate")


@pytest.mark.promise("OPS-K8S-14")
def test_a_proxy_reaches_the_port_of_the_gateways_and_nothing_else(
    arrangements: Arrangements,
) -> None:
    for arrangement in arrangements.values():
        gateway = arrangement.workloads["gateway"]
        port = int(arrangement.environment(gateway)["MESHWRIGHT_GATEWAY__PORT"])
        named = {one["name"]: one["containerPort"] for one in gateway.container["ports"]}
        assert named["http"] == port
        opened = {
            name
            for name, policy in arrangement.of_kind("NetworkPolicy").items()
            for rule in policy["spec"].get("ingress", [])
            if port in {one["port"] for one in rule["ports"]}
        }
        assert opened == {"callers-of-gateway"}
        service = arrangement.of_kind("Service")["gateway"]["spec"]
        assert [one["targetPort"] for one in service["ports"]] == ["http"]


def attributes(text: str) -> dict[str, str]:
    """Return attributes as the annotations of the load balancer write them."""
    pairs = (one.partition("=") for one in text.split(","))
    return {name: value for name, _, value in pairs}
