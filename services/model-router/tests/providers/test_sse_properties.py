"""Any valid stream of server-sent events, cut anywhere, gives the same events."""

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from meshwright_model_router.providers.sse import MAX_LINE_BYTES, SseError, SseParser

# A busy machine is slow, and that is no failure.
ANY_MACHINE = settings(deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])

# Data without line ends; anything else may stand there, also what is no UTF-8.
_data = st.binary(max_size=40).map(lambda data: data.translate(None, b"\r\n"))
_line_end = st.sampled_from([b"\n", b"\r\n", b"\r"])
_noise = st.sampled_from(
    [b": comment", b":", b"event: message_start", b"id: 7", b"retry: 10", b"nonsense", b"dat"]
)


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """A stream, and the data of its events."""
    stream = draw(st.sampled_from([b"", b"\xef\xbb\xbf"]))
    expected: list[bytes] = []
    for _ in range(draw(st.integers(0, 8))):
        lines = draw(st.lists(_data, min_size=0, max_size=3))
        fields = [draw(st.sampled_from([b"data: ", b"data:"])) + line for line in lines]
        values = [field.removeprefix(b"data:").removeprefix(b" ") for field in fields]
        for noise in draw(st.lists(_noise, max_size=2)):
            fields.insert(draw(st.integers(0, len(fields))), noise)
        # One kind of end for each event: a CR before another kind's LF would be one end, not two.
        end = draw(_line_end)
        stream += b"".join(field + end for field in fields) + end
        if lines:
            expected.append(b"\n".join(values))
        if end == b"\r":
            stream += b": so that the next LF is not its second half\n"
    return stream, expected


@given(streams(), st.data())
@settings(ANY_MACHINE, max_examples=120)
def test_any_splitting_of_a_valid_stream_gives_the_same_events(
    made: tuple[bytes, list[bytes]], data: st.DataObject
) -> None:
    """F-56."""
    stream, expected = made
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=20).map(sorted))
    parser, found, at = SseParser(), list[bytes](), 0
    for cut in [*cuts, len(stream)]:
        found += parser.feed(stream[at:cut])
        at = cut
    assert found == expected
    assert SseParser().feed(stream) == expected


@given(st.binary(max_size=200), st.integers(1, 50))
@settings(ANY_MACHINE, max_examples=120)
@example(b"data: a\r\r\ndata: b\n\n", 1)
def test_any_bytes_are_read_the_same_in_pieces(stream: bytes, step: int) -> None:
    """Also what nobody meant as a stream of events breaks nothing and does not depend on cuts."""
    whole = SseParser().feed(stream)
    parser, found = SseParser(), list[bytes]()
    for at in range(0, len(stream), step):
        found += parser.feed(stream[at : at + step])
    assert found == whole


@given(st.lists(st.sampled_from([b": ping\n", b"event: x\n", b"\n", b"id: 1\r\n", b":\r"])))
@settings(ANY_MACHINE, max_examples=100)
def test_what_is_no_data_is_no_progress(pieces: list[bytes]) -> None:
    """Whoever sends nothing else runs into the limit of silence, however much it is."""
    parser = SseParser()
    for piece in pieces:
        assert parser.feed(piece) == []
        assert not parser.progress


def test_data_is_progress_whole_or_in_part() -> None:
    parser = SseParser()
    for piece in (b"da", b"ta: a", b"b\n", b"data: c\n"):
        parser.feed(piece)
        assert parser.progress
    parser.feed(b": ping\n")
    assert not parser.progress


@given(st.integers(1, 1 << 16))
@settings(ANY_MACHINE, max_examples=20)
def test_line_that_never_ends_is_refused_at_its_limit(step: int) -> None:
    """F-56: memory stays bounded by the limit and one read."""
    parser, fed = SseParser(), 0
    piece = b"x" * max(step, 4096)
    try:
        while fed <= 2 * MAX_LINE_BYTES:
            parser.feed(piece)
            fed += len(piece)
    except SseError:
        assert MAX_LINE_BYTES - len(piece) < fed <= MAX_LINE_BYTES
        return
    raise AssertionError("a line of 2 MiB was held")
