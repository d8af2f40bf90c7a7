"""What a reader of a turn was told."""

from typing import Any


def text_of(events: list[Any]) -> str:
    """The answer as a reader puts it together: a restart withdraws what came before."""
    text = ""
    for event in events:
        if event.HasField("restarted"):
            text = text[: event.restarted.keep_characters]
        text += event.message_delta.text
    return text


def kinds(events: list[Any]) -> list[str]:
    """Return what each event is."""
    return [event.WhichOneof("event") for event in events]
