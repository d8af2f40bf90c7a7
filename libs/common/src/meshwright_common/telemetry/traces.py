"""The traces of a process, switched on as its settings say."""

import atexit

from meshwright_common.settings import SettingsError, variable_name
from meshwright_common.telemetry import captured, propagation, tracing
from meshwright_common.telemetry.sampling import Sampling
from meshwright_common.telemetry.settings import TelemetrySettings


def configure_traces(service: str, settings: TelemetrySettings) -> None:
    """Make spans when there is somewhere to put them; otherwise nothing is made at all.

    `service` is the name of the process. Raises: SettingsError when the file cannot be written.
    """
    propagation.configure(settings.trace_headers_to, trust_callers=settings.trace_trust_callers)
    captured.configure(
        enabled=settings.capture_content,
        most_bytes=settings.capture_max_bytes,
        masks=settings.capture_masks,
    )
    if not settings.otlp_endpoint and settings.trace_file is None:
        return
    # Imported only when asked for: the SDK costs 30 ms and 15 MB.
    from meshwright_common.telemetry.span_export import open_export  # noqa: PLC0415

    sampling = Sampling(
        ratio=settings.trace_sample_ratio,
        keep_failed=settings.trace_keep_failed,
        slow_seconds=settings.trace_slow_seconds,
    )
    try:
        emit, close = open_export(
            service, otlp_endpoint=settings.otlp_endpoint, file=settings.trace_file
        )
    except OSError as error:
        variable = variable_name(("telemetry", "trace_file"))
        raise SettingsError(
            f"{variable}: cannot write {settings.trace_file}: {error.strerror}"
        ) from None
    tracing.start(sampling, emit, close)
    # What ended last is sent however the process was begun; a second time does nothing.
    atexit.register(tracing.shutdown)
