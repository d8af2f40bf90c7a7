"""Settings of logs, traces and metrics: a section of `meshwright_common.settings`."""

import re
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from meshwright_common.setting_values import listen_address, of_schemes

_HOST_PATTERN: Final = re.compile(r"(\*\.)?[A-Za-z0-9.-]{1,253}")


class TelemetrySettings(BaseModel):
    """Logs to standard error; traces to `otlp_endpoint` or `trace_file`, metrics at
    `metrics_listen`, each if set.

    `trace_sample_ratio` of new traces are recorded whole; of the others what failed, with
    `trace_keep_failed`, and what took `trace_slow_seconds` to its first answer (0: nothing).
    With `trace_trust_callers` clients decide by the sampled flag of their `traceparent` whether
    theirs are. Requests to `trace_headers_to` (hosts, or *.domain) carry the trace; no others do.

    `capture_content` puts prompts, answers and arguments of tools on spans, each up to
    `capture_max_bytes`, with secrets and what `capture_masks` (regular expressions) find hidden.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"
    otlp_endpoint: str = ""
    trace_file: Path | None = None
    trace_sample_ratio: float = Field(default=1.0, ge=0, le=1)
    trace_keep_failed: bool = True
    trace_slow_seconds: float = Field(default=10.0, ge=0, le=3600)
    trace_trust_callers: bool = False
    trace_headers_to: tuple[str, ...] = ()
    capture_content: bool = False
    capture_max_bytes: int = Field(default=4096, ge=64, le=64 * 1024)
    capture_masks: tuple[str, ...] = ()
    metrics_listen: str = ""

    @field_validator("metrics_listen")
    @classmethod
    def _is_address(cls, listen: str) -> str:
        return listen_address(listen) if listen else listen

    @field_validator("otlp_endpoint")
    @classmethod
    def _is_endpoint(cls, url: str) -> str:
        return of_schemes(url, "http://", "https://") if url else url

    @field_validator("trace_headers_to")
    @classmethod
    def _are_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if not _HOST_PATTERN.fullmatch(host):
                raise ValueError(f"{host!r} is no host name such as tools.example.com or *.local")
        return hosts

    @field_validator("capture_masks")
    @classmethod
    def _are_expressions(cls, masks: tuple[str, ...]) -> tuple[str, ...]:
        for mask in masks:
            try:
                re.compile(mask)
            except re.error as error:
                raise ValueError(f"{mask!r} is no regular expression: {error}") from None
        return masks
