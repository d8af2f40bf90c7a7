"""What the tests of infrastructure share."""

from __future__ import annotations

import os
from collections.abc import Mapping

import pytest

from tests.manifests import Arrangement, render


@pytest.fixture(scope="session")
def arrangements(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Arrangement]:
    """Every overlay and variant of infra/k8s, rendered once for all processes of the tests."""
    base = tmp_path_factory.getbasetemp()
    return render((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "manifests")
