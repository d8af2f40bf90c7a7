"""The process that evaluates expressions which iterate: one after the other, until its input ends.

Each message is four bytes of length and JSON: [expression, variables] in, {"value"} or {"error"}
out. The first argument is the address space that it may have, in bytes.
"""

import resource
import sys
from typing import Final

import orjson

from meshwright_orchestrator.adapters.cel import LENGTH, evaluated
from meshwright_orchestrator.domain.workflows.expressions import ExpressionWrong

MAX_MESSAGE_BYTES: Final = 512 * 1024 * 1024


def main() -> None:
    """Serve standard input until it ends."""
    memory_bytes = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    incoming, outgoing = sys.stdin.buffer, sys.stdout.buffer
    while len(header := incoming.read(LENGTH.size)) == LENGTH.size:
        (length,) = LENGTH.unpack(header)
        expression, variables = orjson.loads(incoming.read(min(length, MAX_MESSAGE_BYTES)))
        try:
            answer: dict[str, object] = {"value": evaluated(expression, variables)}
        except ExpressionWrong as error:
            answer = {"error": error.message}
        except MemoryError:
            answer = {"error": f"{expression[:200]}: takes more memory than an expression may"}
        body = orjson.dumps(answer)
        outgoing.write(LENGTH.pack(len(body)) + body)
        outgoing.flush()


if __name__ == "__main__":
    main()
