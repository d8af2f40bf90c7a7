"""The file that says what the limits are while the gateway runs: read again when it changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

import yaml
from pydantic import ValidationError

from meshwright_common.settings import SettingsError
from meshwright_common.telemetry.logging import get_logger
from meshwright_common.watched_files import WatchedFiles
from meshwright_gateway.limits.limit_settings import LimitsSection, overlaid
from meshwright_gateway.metrics import LIMITS_FILE_REFUSED

MOST_BYTES: Final = 1024 * 1024
_VARIABLE: Final = "MESHWRIGHT_GATEWAY__LIMITS__FILE"
_logger = get_logger(__name__)


class LimitFile:
    """Limits from the settings, and from their `file` if they name one.

    A file that cannot be used changes nothing: the last good one holds, the log says why at each
    change of the file, and a metric says that it is so.
    """

    def __init__(self, section: LimitsSection) -> None:
        self._settings = section
        self._path = Path(section.file) if section.file else None
        self._watched = WatchedFiles(*([self._path] if self._path else []))

    @property
    def is_there(self) -> bool:
        """Whether the settings name a file."""
        return self._path is not None

    def first(self) -> LimitsSection:
        """Return the limits to begin with. Raises: SettingsError when the file cannot be used."""
        if self._path is None:
            return self._settings
        return self._read(self._path)

    async def watch(self, use: Callable[[LimitsSection], None]) -> None:
        """Hand over the limits whenever the file has changed to something that can be used."""
        if self._path is None:
            return
        while True:
            await self._watched.changed()
            try:
                section = await asyncio.to_thread(self._read, self._path)
            except SettingsError as error:
                LIMITS_FILE_REFUSED.set(1)
                _logger.exception("limits_file_refused", cause=str(error))
                continue
            LIMITS_FILE_REFUSED.set(0)
            use(section)
            _logger.info("limits_changed", file=str(self._path))

    def _read(self, path: Path) -> LimitsSection:
        try:
            with path.open("rb") as file:
                data = file.read(MOST_BYTES + 1)
            if len(data) > MOST_BYTES:
                raise SettingsError(f"{_VARIABLE}: {path} is over {MOST_BYTES} bytes")
            content = yaml.safe_load(data.decode("utf-8"))
        except OSError as error:
            raise SettingsError(f"{_VARIABLE}: cannot read {path}: {error.strerror}") from None
        except (UnicodeDecodeError, yaml.YAMLError) as error:
            raise SettingsError(f"{_VARIABLE}: {path} is not YAML: {error}") from None
        if not isinstance(content, dict):
            raise SettingsError(
                f"{_VARIABLE}: {path} must hold a mapping, as the limits of settings"
            )
        for name in ("file", "replicas"):
            if name in content:
                raise SettingsError(f"{_VARIABLE}: {path}: {name} is a setting, not of the file")
        try:
            return overlaid(self._settings, {str(name): value for name, value in content.items()})
        except ValidationError as error:
            lines = [
                f"{'.'.join(map(str, detail['loc'])) or 'limits'}: "
                + detail["msg"].removeprefix("Value error, ")
                for detail in error.errors(include_url=False, include_input=False)
            ]
            raise SettingsError(f"{_VARIABLE}: {path}: {'; '.join(lines)}") from None
