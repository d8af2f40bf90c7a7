"""Readers of the three kinds of answers: completion, completion stream, turn stream."""

from array import array

import msgspec

from bench.openai_wire import STAMP_MODULUS, TOKEN_LENGTH, sent_times

_DONE = b"[DONE]"


class TransitTimes:
    """Transit of all tokens of a run, in microseconds."""

    def __init__(self) -> None:
        """Start empty."""
        self.microseconds = array("I")

    def add(self, sent: list[int], now: int) -> None:
        """Add tokens that arrived at `now`."""
        self.microseconds.extend([(now - at) % STAMP_MODULUS for at in sent])


class Delta(msgspec.Struct):
    """Data of a `message.delta` event, as far as it is read."""

    text: str = ""


class TokenReader:
    """Counts time-stamped tokens, whole ones also when they arrive in two pieces."""

    def __init__(self, transit: TransitTimes | None, expected: int) -> None:
        """Check for `expected` tokens; transit is recorded only when given."""
        self.tokens = 0
        self.first_token_at: int | None = None
        self._transit = transit
        self._expected = expected
        self._rest = b""

    def count(self, data: bytes, now: int) -> None:
        """Count the tokens that end in this piece of text."""
        data = self._rest + data
        sent = sent_times(data)
        if sent:
            if self.first_token_at is None:
                self.first_token_at = now
            self.tokens += len(sent)
            if self._transit is not None:
                self._transit.add(sent, now)
        # One byte less than a token: nothing is counted twice.
        self._rest = data[-(TOKEN_LENGTH - 1) :]

    def count_problem(self) -> str | None:
        """Return what is wrong with the number of tokens."""
        if self.tokens == self._expected:
            return None
        return f"{self.tokens} tokens instead of {self._expected}"


class CompletionReader(TokenReader):
    """Reads a completion that is not streamed."""

    def __init__(self, expected: int) -> None:
        """Transit means nothing here: all tokens are sent at once."""
        super().__init__(None, expected)

    def feed(self, data: bytes, now: int) -> None:
        """Count by the mark that begins a token: cheap, and no piece can hide one."""
        self.first_token_at = self.first_token_at or now
        self.tokens += data.count(b"~")

    def problem(self) -> str | None:
        """Return what was wrong with the answer."""
        return self.count_problem()


class CompletionStreamReader(TokenReader):
    """Reads a streamed completion. Tokens are counted on the raw bytes, merged or not."""

    def __init__(self, transit: TransitTimes, expected: int) -> None:
        """Start before the first byte."""
        super().__init__(transit, expected)
        self._done = False
        self._failed = False

    def feed(self, data: bytes, now: int) -> None:
        """Count tokens and look for the end."""
        with_rest = self._rest + data
        self.count(data, now)
        self._done = self._done or _DONE in with_rest
        self._failed = self._failed or b'"error":' in data

    def problem(self) -> str | None:
        """Return what was wrong with the answer."""
        if self._failed:
            return "error event in the stream"
        return self.count_problem() if self._done else "stream without [DONE]"


class TurnStreamReader(TokenReader):
    """Reads a turn's events: only `message.delta` counts, `turn.completed` must end it."""

    def __init__(self, transit: TransitTimes, expected: int) -> None:
        """Start before the first byte."""
        super().__init__(transit, expected)
        self._buffer = b""
        self._end = ""

    def feed(self, data: bytes, now: int) -> None:
        """Take whole events, keep the rest."""
        *events, self._buffer = (self._buffer + data).split(b"\n\n")
        for event in events:
            self._event(event, now)

    def problem(self) -> str | None:
        """Return what was wrong with the turn."""
        if self._end == "turn.completed":
            return self.count_problem()
        return f"turn ended with {self._end or 'nothing'}"

    def _event(self, event: bytes, now: int) -> None:
        name = data = b""
        for line in event.split(b"\n"):
            field, _, value = line.partition(b":")
            if field == b"event":
                name = value.strip()
            elif field == b"data":
                data = value
        if name == b"message.delta":
            self.count(msgspec.json.decode(data, type=Delta).text.encode(), now)
        elif name in (b"turn.completed", b"turn.failed", b"turn.cancelled"):
            self._end = name.decode()
