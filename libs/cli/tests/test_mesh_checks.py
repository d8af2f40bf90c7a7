"""Doctor says what is wrong between services, and what to do."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from meshwright_cli.mesh_checks import check_certificates, check_registry
from meshwright_common.identity.certificates import write_certificates
from meshwright_common.settings import RegistrySettings, TlsSettings
from meshwright_common.storage.embedded.process import free_port


@pytest.mark.asyncio
@pytest.mark.timeout(170)
async def test_a_registry_that_answers_is_good(consul_server: str) -> None:
    finding = await check_registry(RegistrySettings(url=consul_server.replace("http", "consul")))
    assert finding.good
    assert "Consul answers" in finding.text


@pytest.mark.asyncio
async def test_a_registry_that_is_away_is_named_without_its_token() -> None:
    url = f"consul://:s3cret@127.0.0.1:{free_port()}"
    finding = await check_registry(RegistrySettings(url=url))
    assert "MESHWRIGHT_REGISTRY__URL" in finding.advice
    assert "s3cret" not in finding.text


@pytest.mark.parametrize(("days", "good"), [(30, True), (3, False)])
def test_certificates_that_end_soon_are_bad(tmp_path: Path, days: int, good: bool) -> None:
    write_certificates(tmp_path, ["rag"], timedelta(days=days), shared_name="meshwright")
    (finding,) = check_certificates(
        TlsSettings(
            ca_file=tmp_path / "ca.crt",
            certificate_file=tmp_path / "{service}.crt",
            key_file=tmp_path / "{service}.key",
        )
    )
    assert (finding.good, "valid until" in finding.text) == (good, True)
