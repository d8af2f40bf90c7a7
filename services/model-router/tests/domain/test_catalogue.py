"""Which deployment serves a name."""

import pytest

from meshwright_common.errors import ServiceError
from meshwright_model_router.domain.catalogue import Catalogue, Deployment
from meshwright_model_router.providers.offline.chat import OfflineChat


def catalogue(*deployments: Deployment, default: str = "offline") -> Catalogue:
    served = [(deployment, OfflineChat()) for deployment in deployments]
    return Catalogue(served, [], default=default, default_embedding="")


OFFLINE = Deployment("offline", "offline", "offline")
EXACT = Deployment("sim-fast", "openai", "fast")
PATTERN = Deployment("sim-*", "openai", "*")
NARROW = Deployment("sim-b-*", "openai", "b")


@pytest.mark.parametrize(
    ("name", "deployment", "model"),
    [
        ("", "offline", "offline"),
        ("offline", "offline", "offline"),
        ("sim-fast", "sim-fast", "fast"),
        ("sim-n16-tps50", "sim-*", "sim-n16-tps50"),
        ("sim-b-1", "sim-b-*", "b"),
    ],
)
def test_most_exact_name_wins(name: str, deployment: str, model: str) -> None:
    route = catalogue(OFFLINE, PATTERN, EXACT, NARROW).find_chat(name)
    assert (route.deployment.name, route.model) == (deployment, model)


@pytest.mark.parametrize(
    "name", ["gpt", "sim", "SIM-FAST", "sim-\x00", "sim-" + "x" * 600, "sim-a b"]
)
def test_unknown_name_lists_what_exists(name: str) -> None:
    with pytest.raises(ServiceError) as raised:
        catalogue(OFFLINE, PATTERN).find_chat(name)
    assert raised.value.reason == "MODEL_NOT_FOUND"
    assert raised.value.metadata["models"] == "offline, sim-*"


def test_model_that_generates_does_not_embed() -> None:
    with pytest.raises(ServiceError) as raised:
        catalogue(OFFLINE).find_embedding("offline")
    assert raised.value.reason == "MODEL_NOT_FOUND"
    assert "embed" in raised.value.message
