"""Creating knowledge bases."""

from typing import Final

from meshwright_common.errors import NotFound, invalid
from meshwright_rag.domain.models import KnowledgeBase
from meshwright_rag.domain.ports import Embedder, KnowledgeBases

MAX_NAME_CHARACTERS: Final = 100
MAX_DESCRIPTION_CHARACTERS: Final = 2_000
_PROBE: Final = "test"


class Knowledge:
    """The rules for knowledge bases."""

    def __init__(self, knowledge_bases: KnowledgeBases, embedder: Embedder) -> None:
        self._knowledge_bases = knowledge_bases
        self._embedder = embedder

    async def create(
        self, tenant_id: str, name: str, *, description: str, embedding_model: str, request_id: str
    ) -> KnowledgeBase:
        """Create a knowledge base; a model that is named has to work.

        Raises: InvalidArgument, KnowledgeBaseExists; Unavailable when the model cannot be asked.
        """
        name = name.strip()
        if not name or len(name) > MAX_NAME_CHARACTERS or not name.isprintable():
            raise invalid("name", f"must have 1 to {MAX_NAME_CHARACTERS} printable characters")
        if len(description) > MAX_DESCRIPTION_CHARACTERS or "\0" in description:
            raise invalid(
                "description", f"must have at most {MAX_DESCRIPTION_CHARACTERS} characters"
            )
        if embedding_model:
            try:
                await self._embedder.embed(embedding_model, [_PROBE], purpose="indexing")
            except NotFound as error:
                raise invalid("embedding_model", f"there is no model {embedding_model}") from error
        return await self._knowledge_bases.create(
            tenant_id,
            name,
            description=description,
            embedding_model=embedding_model,
            request_id=request_id,
        )
