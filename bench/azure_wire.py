"""What Azure's OpenAI service does to the stream: results of its filter come first and beside."""

import msgspec

from bench.answers import Answer
from bench.openai_wire import event

_SAFE = {
    name: {"filtered": False, "severity": "safe"} for name in ("hate", "self_harm", "violence")
}


class AzureAnswer(Answer):
    """One answer whose first event has no choices, but what the filter found in the prompt."""

    __slots__ = ()

    def opening(self) -> bytes:
        """Return the events before the first piece."""
        first = {
            "id": "",
            "object": "",
            "created": 0,
            "model": "",
            "choices": [],
            "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": _SAFE}],
        }
        return event(msgspec.json.encode(first)) + super().opening()

    @classmethod
    def of(cls, answer: Answer) -> "AzureAnswer":
        """Return an answer of OpenAI's as Azure sends it."""
        return cls(*(getattr(answer, name) for name in Answer.__match_args__))
