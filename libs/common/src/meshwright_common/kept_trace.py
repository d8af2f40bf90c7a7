"""A trace as it is kept with work that is done later: parent and state in one text.

W3C Trace Context has two headers for them. Queues and tables of ours have one column, named after
the first: `traceparent`, and behind a blank the `tracestate`, if there is one. Where headers go
along, as in events and messages of RabbitMQ, the two stand in their own.
"""


def joined(traceparent: str, tracestate: str) -> str:
    """Return the text to keep; "" without a parent, for a state alone is of no trace."""
    return f"{traceparent} {tracestate}" if traceparent and tracestate else traceparent


def parted(trace: str) -> tuple[str, str]:
    """Return the trace parent and the trace state ("": none) of a text of `joined`."""
    traceparent, _, tracestate = trace.partition(" ")
    return traceparent, tracestate
