"""The process that parses documents: `python -m meshwright_rag.parse_worker`.

It reads requests from standard input and writes answers to standard output, each a length of four
bytes (big endian) and JSON. A request names a file; the answer is an outline, then batches of
passages, then the end, or an error in place of any of them. The process holds no secrets and no
connections, cannot write files, and has a limit of memory: a hostile file can only end it.
"""

import ctypes
import os
import resource
import signal
import struct
import sys
import traceback
from itertools import islice
from pathlib import Path
from typing import IO, Final

import orjson

from meshwright_common.errors import ServiceError
from meshwright_rag.adapters.jieba_terms import tsvector
from meshwright_rag.domain.chunking import Chunk, ChunkSizes, chunk
from meshwright_rag.domain.errors import DocumentBroken, DocumentLimit
from meshwright_rag.domain.media_types import MediaType
from meshwright_rag.domain.parsed import ParseLimits
from meshwright_rag.parsers.reading import parse

BATCH: Final = 64
"""Passages in one answer: some 200 KB, so that both sides hold little."""

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38
_NICENESS: Final = 10
_OPEN_FILES: Final = 64
_LENGTH: Final = struct.Struct(">I")


def main() -> None:
    """Serve requests until standard input ends. The first argument is the memory limit in bytes."""
    _confine(int(sys.argv[1]))
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    # What libraries print must not get between the answers.
    sys.stdout = sys.stderr
    while header := requests.read(_LENGTH.size):
        request = orjson.loads(requests.read(*_LENGTH.unpack(header)))
        try:
            _answer(request, answers)
        except ServiceError as error:
            _send(answers, {"error": [error.reason, error.message, error.metadata]})
        except MemoryError:
            limit = DocumentLimit(limit="memory")
            _send(answers, {"error": [limit.reason, limit.message, limit.metadata]})
        # house: broad-except: the boundary of a worker process
        except Exception as error:
            # The outermost frame of the work: a file that a parser did not expect ends here.
            traceback.print_exc()
            broken = DocumentBroken(detail=type(error).__name__)
            _send(answers, {"error": [broken.reason, broken.message, broken.metadata]})


def _confine(memory_bytes: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    os.nice(_NICENESS)
    for limit, value in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
    ):
        resource.setrlimit(limit, (value, value))


def _answer(request: dict[str, object], answers: IO[bytes]) -> None:
    limits = ParseLimits(**request["limits"])  # type: ignore[arg-type]
    sizes = ChunkSizes(**request["sizes"])  # type: ignore[arg-type]
    document = parse(Path(str(request["path"])), MediaType(str(request["media_type"])), limits)
    chunks = list(islice(chunk(document, sizes), limits.max_passages + 1))
    if len(chunks) > limits.max_passages:
        raise DocumentLimit(limit=f"{limits.max_passages} passages")
    _send(answers, {"outline": [document.page_count or 0, len(chunks)]})
    for start in range(0, len(chunks), BATCH):
        _send(answers, {"passages": [_passage(one) for one in chunks[start : start + BATCH]]})
    _send(answers, {"end": True})


def _passage(one: Chunk) -> list[object]:
    return [
        one.ordinal, one.text, one.start, one.end, one.page, one.heading_path,
        *tsvector(one.text, one.heading_path),
    ]  # fmt: skip


def _send(answers: IO[bytes], answer: dict[str, object]) -> None:
    body = orjson.dumps(answer)
    answers.write(_LENGTH.pack(len(body)))
    answers.write(body)
    answers.flush()


if __name__ == "__main__":
    main()
