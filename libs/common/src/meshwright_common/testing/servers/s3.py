"""moto's server: the S3 interface, kept in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from meshwright_common.testing.servers.base import LOOPBACK, Server, installed
from meshwright_common.testing.servers.http import put

BUCKET: Final = "meshwright"
"""There is one from the start on."""


class MotoServer(Server):
    """An S3 server that takes any credentials and forgets all at its end. `url` is its address."""

    name = "s3"

    @property
    def url(self) -> str:
        """The endpoint."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def address(self) -> str:
        return self.url

    @property
    def variables(self) -> Mapping[str, str]:
        return {
            "MESHWRIGHT_OBJECTS__URL": f"s3://any:any@{BUCKET}",
            "MESHWRIGHT_OBJECTS__ENDPOINT": self.url,
        }

    def _launch(self) -> None:
        self._run(installed("s3"), "-H", LOOPBACK, "-p", str(self.port))

    def _answers(self) -> bool:
        return put(f"{self.url}/{BUCKET}")
