"""Content in traces: prompts, answers, arguments of tools. Off unless a setting says otherwise.

What is captured leaves the platform: no encryption of ours, no erasure reaches it there. So it is
the operator's decision, cut to a size, and masked: secrets by their form, as in logs, and whatever
else the operator's expressions find.
"""

import re
from collections.abc import Sequence
from typing import Final

import orjson

from meshwright_common.telemetry import logging, trace_context
from meshwright_common.telemetry.spans import Span

MASK: Final = "***"


class _State:
    """One per process. 0 bytes: nothing is captured."""

    most_bytes = 0
    masks: tuple[re.Pattern[str], ...] = ()


def configure(*, enabled: bool, most_bytes: int, masks: Sequence[str]) -> None:
    """Capture up to `most_bytes` an attribute, with what `masks` find replaced. Raises: re.error"""
    _State.masks = tuple(re.compile(mask) for mask in masks)
    _State.most_bytes = most_bytes if enabled else 0


def wanted(span: Span) -> bool:
    """Return whether content is to be put on `span`: ask before it is gathered."""
    return bool(_State.most_bytes) and span.recording and trace_context.is_sampled(span.traceparent)


def put(span: Span, attribute: str, content: object) -> None:
    """Put JSON `content`, or a text, on `span`, cut and masked. Nothing when it is not wanted."""
    if not wanted(span):
        return
    text = content if isinstance(content, str) else orjson.dumps(content, default=str).decode()
    # Masked before it is cut: half of a secret has no form by which it is known.
    text = logging.masked(text)
    for mask in _State.masks:
        text = mask.sub(MASK, text)
    span.set(
        attribute, text.encode("utf-8", "replace")[: _State.most_bytes].decode("utf-8", "ignore")
    )
