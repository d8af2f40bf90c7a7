"""The mesh's memory for graphs: what is remembered of the task's owner, journaled as calls are."""

from collections.abc import Sequence
from typing import Final

from meshwright_orchestrator.domain.journal import Remembered
from meshwright_orchestrator.langgraph.recorder import Recorder

MEMORIES: Final = 5


class MeshMemory:
    """Memories of the task's owner, which session keeps. Nobody else's can be asked for."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    async def recall(self, query: str, top_k: int = MEMORIES) -> Sequence[Remembered]:
        """Return up to `top_k` (1–50) memories that fit `query`, best first; none when memory is
        away or does not answer in time.
        """
        return await self._recorder.recall(query, top_k)

    def recall_sync(self, query: str, top_k: int = MEMORIES) -> Sequence[Remembered]:
        """As `recall`, for synchronous nodes."""
        return self._recorder.from_thread(self._recorder.recall(query, top_k))
