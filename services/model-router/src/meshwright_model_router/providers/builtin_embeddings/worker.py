"""The process that computes embeddings; started by `process.py`, ends with its standard input.

    python -m meshwright_model_router.providers.builtin_embeddings.worker

It reads texts from standard input and answers on standard output (`frames.py`), one request after
the other. It holds no secrets and no connections.
"""

import os
import signal
import sys
from typing import Final

from meshwright_model_router.domain.tokens import count_text
from meshwright_model_router.providers.builtin_embeddings import frames
from meshwright_model_router.providers.builtin_embeddings.vectors import embed

_NICENESS: Final = 5
"""Indexing must not slow down those who wait for an answer."""


def main() -> None:
    """Serve requests until standard input ends."""
    # An interrupt in a terminal reaches the whole group: it is the parent's to act on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(_NICENESS)
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    # What a library prints must not get between the answers.
    sys.stdout = sys.stderr
    embed("warm 热身")
    while header := requests.read(frames.LENGTH.size):
        request = frames.decode_texts(requests.read(*frames.LENGTH.unpack(header)))
        answer = frames.Embeddings(
            vectors=b"".join(embed(text).tobytes() for text in request.texts),
            tokens=sum(map(count_text, request.texts)),
        )
        answers.write(frames.frame(answer))
        answers.flush()


if __name__ == "__main__":
    main()
